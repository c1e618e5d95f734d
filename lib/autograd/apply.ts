// The differentiable call of a layer, written on its explicit forward and backward.

import type { LayerInput } from '../layer-input.js'
import type { Tensor } from '../tensor.js'
import { TensorMemory } from '../tensor-memory.js'
import { record } from './record.js'
import { isRecording } from './recording.js'

/** A layer whose forward gives a context for one backward. */
export interface ExplicitLayer<Context extends { dispose(): void }> {
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Context }
  backward(context: Context, dy: Tensor): Tensor
  infer(x: LayerInput): Tensor<'float32'>
}

/**
 * `layer.forward(x)`, recorded: its parameters require gradients, whether x does or not. Inside of
 * noGrad(), `layer.infer(x)`.
 */
export function applied<Context extends { dispose(): void }>(
  where: string,
  layer: ExplicitLayer<Context>,
  x: LayerInput,
): Tensor<'float32'> {
  if (!isRecording()) return layer.infer(x)
  const { output, context } = layer.forward(x)
  const inputs = { x: TensorMemory.isTensor(x) ? (x as Tensor) : undefined }
  record<'x', Tensor>(where, inputs, output, {
    saved: {},
    backward: (dy) => ({ x: layer.backward(context, dy) }),
    release: () => context.dispose(),
  })
  return output
}

// Layers on divided tables, whose forward and backward are made of native parts and collectives.

import { unrecorded } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import { type ContextHandle, native, type TensorHandle } from '../binding.js'
import type { NativeLayer } from '../layer.js'
import type { Tensor } from '../tensor.js'

/** What a layer calls of its native part. */
export type Calls = Pick<NativeLayer, 'forward' | 'infer' | 'backward'>

/** Runs `body` without recording, and disposes the tensors that it makes but its result. */
export function composed(body: () => Tensor): TensorHandle {
  const result = unrecorded(() => tidy(body))
  const own = native.tensorView(result.handle('layer', 'result'), 0, result.shape)
  result.dispose()
  return own
}

/** Rows of the last axis. */
export function rowsOf({ shape }: TensorHandle): number {
  return shape.slice(0, -1).reduce((rows, n) => rows * n, 1)
}

/** The calls of a layer by its forward, which saves for `backward` or not, and its backward. */
export function callsOf(
  run: (x: TensorHandle, save: boolean) => { output: TensorHandle; context: ContextHandle },
  backward: (context: ContextHandle, dy: TensorHandle) => Tensor,
): Calls {
  return {
    forward: (x) => run(x, true),
    infer: (x) => {
      const { output, context } = run(x, false)
      native.contextDispose(context)
      return output
    },
    backward: (context, dy) => composed(() => backward(context, dy)),
  }
}

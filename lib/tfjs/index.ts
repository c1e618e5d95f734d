/**
 * Memory layers inside TensorFlow.js models. TensorFlow.js is handed in by the caller, so whichever
 * build of it the program uses (tfjs, tfjs-core, tfjs-node) is the one that is used here.
 * @module memory-layers/tfjs
 */

import type * as Tf from '@tensorflow/tfjs-core'
import type { Context } from '../context.js'
import { fail } from '../errors.js'
import { TableLayer } from '../layer.js'
import type { Tensor } from '../tensor.js'

/** What is used of TensorFlow.js: pass the `tf` of your program. */
export type TensorFlow = Pick<typeof Tf, 'customGrad' | 'tensor'>

/**
 * A function of TensorFlow.js tensors `[tokens, inputDim]` or `[batch, time, inputDim]`, float32.
 */
export type TfFunction = (x: Tf.Tensor) => Tf.Tensor

/**
 * A memory or PEER layer as a differentiable function over TensorFlow.js tensors, through
 * `tf.customGrad`. The gradient of x goes on through TensorFlow.js; the layer's own parameters
 * collect theirs here, and one of this package's optimizers updates them:
 *
 * ```ts
 * const memory = asFunction(tf, layer)
 * adam.minimize(() => loss(head(memory(body(x)))))
 * optimizer.step()
 * optimizer.zeroGrad()
 * ```
 * TensorFlow.js asks for values and gradients synchronously, so each call blocks the thread until
 * the layer's work is done.
 * @param tf the TensorFlow.js of the program
 * @param layer on any device; numbers cross in each direction once per call
 * @returns a function that throws ERR_SHAPE for an x of another width and ERR_DTYPE for one that is
 * not float32
 * @throws ERR_VALUE
 */
export function asFunction(tf: TensorFlow, layer: TableLayer): TfFunction {
  const where = 'asFunction'
  checkArguments(where, tf, layer)
  const forward = tf.customGrad((...inputs) => {
    const x = inputs[0] as Tf.Tensor
    const input = fromTf(layer, x)
    const { output, context } = layer.forward(input)
    input.dispose()
    return {
      value: toTf(tf, output),
      gradFunc: (dy: Tf.Tensor) => backward(tf, layer, context, dy),
    }
  })
  return (x) => {
    checkFloat32(where, x)
    return forward(x)
  }
}

/**
 * The layer's output without anything saved for a gradient: for predicting. A gradient through it
 * is an error of TensorFlow.js.
 * @throws ERR_VALUE; the returned function throws ERR_SHAPE and ERR_DTYPE
 */
export function asInference(tf: TensorFlow, layer: TableLayer): TfFunction {
  const where = 'asInference'
  checkArguments(where, tf, layer)
  return (x) => {
    checkFloat32(where, x)
    const input = fromTf(layer, x)
    const output = layer.infer(input)
    input.dispose()
    return toTf(tf, output)
  }
}

/** What {@link asLayer} needs of a TensorFlow.js layer. */
export interface TfLayer {
  /** The output of a batch. */
  // biome-ignore lint/suspicious/noExplicitAny: overridden with narrower types
  call(inputs: any, kwargs: any): any
  /** The shape of the output from that of the input; null where it is not known. */
  // biome-ignore lint/suspicious/noExplicitAny: overridden with narrower types
  computeOutputShape(shape: any): any
}

/**
 * The layer for `tf.sequential()` and `tf.model()`: trains with `model.fit`, predicts with
 * `model.predict`. Its parameters are updated where the caller says so, as a rule after each batch:
 *
 * ```ts
 * model.add(asLayer(tf, layer))
 * const onBatchEnd = () => {
 *   optimizer.step()
 *   optimizer.zeroGrad()
 * }
 * await model.fit(x, y, { callbacks: { onBatchEnd } })
 * ```
 * Parameters are saved with `saveSafetensors(path, layer.stateDict())`, not with the model.
 * @throws ERR_VALUE
 */
export function asLayer<L extends TfLayer>(
  tf: TensorFlow & { layers: { Layer: abstract new (config: never) => L } },
  layer: TableLayer,
): L {
  const train = asFunction(tf, layer)
  const predict = asInference(tf, layer)
  const Base = tf.layers.Layer as unknown as new (config: object) => TfLayer
  class MemoryTfLayer extends Base {
    static readonly className = 'MemoryLayer'

    override computeOutputShape(shape: readonly (number | null)[]): (number | null)[] {
      return [...shape.slice(0, -1), layer.outputDim]
    }

    override call(inputs: Tf.Tensor | Tf.Tensor[], kwargs?: { training?: boolean }): Tf.Tensor {
      const x = Array.isArray(inputs) ? inputs[0]! : inputs
      return kwargs?.training ? train(x) : predict(x)
    }
  }
  return new MemoryTfLayer({}) as unknown as L
}

function checkArguments(where: string, tf: TensorFlow, layer: TableLayer): void {
  if (typeof tf?.customGrad !== 'function' || typeof tf.tensor !== 'function') {
    fail(
      'ERR_VALUE',
      where,
      'tf',
      'be TensorFlow.js',
      tf,
      "Pass the namespace: import * as tf from '@tensorflow/tfjs'.",
    )
  }
  if (!(layer instanceof TableLayer))
    fail('ERR_VALUE', where, 'layer', 'be a MemoryLayer or a PeerLayer', layer)
}

function checkFloat32(where: string, x: Tf.Tensor): void {
  if (x.dtype !== 'float32') fail('ERR_DTYPE', where, 'x', 'be float32', x.dtype)
}

function fromTf(layer: TableLayer, x: Tf.Tensor): Tensor {
  return layer.device.tensor(x.dataSync() as Float32Array, x.shape)
}

function toTf(tf: TensorFlow, t: Tensor): Tf.Tensor {
  const values = t.dataSync()
  t.dispose()
  return tf.tensor(values, [...t.shape], 'float32')
}

function backward(tf: TensorFlow, layer: TableLayer, context: Context, dy: Tf.Tensor): Tf.Tensor {
  const gradient = fromTf(layer, dy)
  const dx = layer.backward(context, gradient)
  gradient.dispose()
  return toTf(tf, dx)
}

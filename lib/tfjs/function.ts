// Layers as functions of TensorFlow.js tensors.

import type { TableLayer } from '../layer.js'
import { checkInteger, checkOptions } from '../options.js'
import { Bridge, checkArguments, emptyTensor } from './bridge.js'
import type { TensorFlow, TfTensor, TfVariable } from './types.js'

/** Options of {@link asFunction}. */
export interface FunctionOptions {
  /**
   * Gradients that may wait for `optimizer.step()` and `zeroGrad()`; the next is an error, since
   * they take memory. Default 1024.
   */
  maxWaiting?: number
}

/**
 * A function of TensorFlow.js tensors `[tokens, inputDim]` or `[batch, time, inputDim]`, float32.
 */
export type TfFunction<T extends TfTensor = TfTensor> = (x: T) => T

/** What {@link asFunction} returns. */
export interface TfDifferentiable<T extends TfTensor = TfTensor> {
  /** The output of x. */
  (x: T): T
  /**
   * One variable without elements. TensorFlow.js computes gradients for variables alone, so a list
   * of variables (`optimizer.minimize(f, true, list)`) must contain it if the layer is to train;
   * without a list all variables are taken.
   */
  // biome-ignore lint/suspicious/noExplicitAny: a variable of the program's TensorFlow.js
  readonly variables: readonly any[]
}

// One for each layer and TensorFlow.js: a function that is made anew each time makes no new one.
const anchors = new WeakMap<object, WeakMap<TableLayer, TfVariable>>()

function anchorOf(tf: TensorFlow, layer: TableLayer): TfVariable {
  const known = anchors.get(tf.variable) ?? new WeakMap<TableLayer, TfVariable>()
  anchors.set(tf.variable, known)
  const old = known.get(layer)
  if (old && !old.isDisposed) return old
  const empty = emptyTensor(tf)
  const anchor = tf.variable(empty, true)
  empty.dispose()
  known.set(layer, anchor)
  return anchor
}

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
 * the layer's work is done. Outside of a gradient nothing is saved.
 * @param tf the TensorFlow.js of the program
 * @param layer on any device; numbers cross in each direction once per call
 * @returns a function that throws ERR_SHAPE for an x of another width, ERR_DTYPE for one that is
 * not float32, and ERR_UNSUPPORTED for a gradient of a gradient
 * @throws ERR_VALUE, ERR_OPTION
 */
export function asFunction<T extends TfTensor>(
  tf: TensorFlow<T>,
  layer: TableLayer,
  options?: FunctionOptions,
): TfDifferentiable<T> {
  const where = 'asFunction'
  checkArguments(where, tf, layer)
  const checked = checkOptions(where, options, ['maxWaiting'])
  const limit = checkInteger(where, 'maxWaiting', checked.maxWaiting ?? 1024, 1)
  const bridge = new Bridge(where, tf, layer, limit)
  anchorOf(tf, layer) // before a gradient collects the variables
  const apply = (x: T) => bridge.apply(x, anchorOf(tf, layer)) as T
  return Object.defineProperty(apply, 'variables', {
    get: () => [anchorOf(tf, layer)],
  }) as TfDifferentiable<T>
}

/**
 * The layer's output without anything saved for a gradient: for predicting. A gradient through it
 * is an error of TensorFlow.js.
 * @throws ERR_VALUE; the returned function throws ERR_SHAPE and ERR_DTYPE
 */
export function asInference<T extends TfTensor>(
  tf: TensorFlow<T>,
  layer: TableLayer,
): TfFunction<T> {
  const where = 'asInference'
  checkArguments(where, tf, layer)
  const bridge = new Bridge(where, tf, layer, 1)
  return (x) => bridge.infer(x) as T
}

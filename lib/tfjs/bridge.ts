// A layer of this package as an operation on TensorFlow.js tensors.

import { native } from '../binding.js'
import type { Context } from '../context.js'
import { fail } from '../errors.js'
import { TableLayer } from '../layer.js'
import type { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import type { TensorFlow, TfTensor } from './types.js'

/** What a bridge tells its owner about gradients. */
export interface GradientHooks {
  /** Whether the layer's parameters are to have gradients. */
  trainable(): boolean
  /** A forward that a gradient may follow; `tape` is an object for each gradient computed. */
  begin(tape: unknown): void
  /** The parameters' gradients were added to. */
  added(): void
  /** The gradient of the anchor, and so of the parameters, was asked for. */
  claimed(): void
  /** Adding failed half-way through a batch. */
  failed(): void
}

export const noHooks: GradientHooks = {
  trainable: () => true,
  begin: () => {},
  added: () => {},
  claimed: () => {},
  failed: () => {},
}

/**
 * Passes tensors to a layer and back. TensorFlow.js leaves an operation out of a gradient that has
 * no trainable variable among its inputs, so the layer is given one of its own without elements:
 * the anchor.
 */
export class Bridge {
  readonly #where: string
  readonly #tf: TensorFlow
  readonly #layer: TableLayer
  readonly #tables: readonly ValueTable[]
  readonly #limit: number
  readonly #hooks: GradientHooks
  /** Of the forwards of one tape, those whose backward is to come. */
  readonly #contexts = new Set<Context>()
  #tape: unknown
  #waiting = 0

  /** @param limit of backward calls whose gradients may wait for a step */
  constructor(
    where: string,
    tf: TensorFlow,
    layer: TableLayer,
    limit: number,
    hooks: GradientHooks = noHooks,
  ) {
    this.#where = where
    this.#tf = tf
    this.#layer = layer
    this.#limit = limit
    this.#hooks = hooks
    this.#tables = layer.parameters().flatMap((p) => (p.kind === 'table' ? [p.table] : []))
  }

  /** The output; within `tf.grad`, `tf.variableGrads` and the like, one with a gradient. */
  apply(x: TfTensor, anchor: TfTensor): TfTensor {
    this.#check(x)
    const { gradientDepth, activeTape } = this.#tf.engine().state
    if (gradientDepth === 0) return this.infer(x)
    this.#enterTape(activeTape)
    const claim = this.#tf.customGrad(() => ({
      value: emptyTensor(this.#tf),
      gradFunc: () => {
        this.#hooks.claimed()
        return emptyTensor(this.#tf)
      },
    }))
    const forward = this.#tf.customGrad((input: TfTensor) => {
      const x = this.#fromTf(input)
      try {
        const { output, context } = this.#layer.forward(x)
        this.#contexts.add(context)
        return {
          value: this.#toTf(output),
          gradFunc: (dy: TfTensor) => [this.#backward(context, dy), emptyTensor(this.#tf)],
        }
      } finally {
        x.dispose()
      }
    })
    return forward(x, claim(anchor)) as TfTensor
  }

  /** The output, with nothing saved. */
  infer(x: TfTensor): TfTensor {
    this.#check(x)
    const input = this.#fromTf(x)
    try {
      return this.#toTf(this.#layer.infer(input))
    } finally {
      input.dispose()
    }
  }

  /** Frees what the forwards of an earlier tape have saved: their backward can't come any more. */
  #enterTape(tape: unknown): void {
    if (tape === this.#tape) return
    this.#hooks.begin(tape)
    this.#tape = tape
    this.#disposeContexts()
    // A gradient is computed synchronously.
    queueMicrotask(() => {
      if (tape !== this.#tape) return
      this.#tape = undefined
      this.#disposeContexts()
    })
  }

  #disposeContexts(): void {
    for (const context of this.#contexts) context.dispose()
    this.#contexts.clear()
  }

  #backward(context: Context, dy: TfTensor): TfTensor {
    if (this.#tf.engine().state.gradientDepth > 0) {
      const found = 'a gradient of a gradient'
      fail('ERR_UNSUPPORTED', this.#where, 'f', 'be differentiated once', found)
    }
    const keep = this.#hooks.trainable()
    if (keep) this.#checkWaiting()
    else this.#checkFrozen()
    const gradient = this.#fromTf(dy)
    try {
      const dx = this.#layer.backward(context, gradient)
      this.#contexts.delete(context)
      if (keep) this.#hooks.added()
      else this.#clear()
      return this.#toTf(dx)
    } catch (error) {
      this.#hooks.failed()
      throw error
    } finally {
      gradient.dispose()
    }
  }

  /** Throws rather than let the tables' queues grow when nothing steps. */
  #checkWaiting(): void {
    if (this.#tables.every((table) => table.pendingReads === 0)) this.#waiting = 0
    if (this.#waiting >= this.#limit) {
      fail(
        'ERR_VALUE',
        this.#where,
        'optimizer',
        `step after each batch, within ${this.#limit} gradients`,
        'none that did',
        'Pass asLayer(tf, layer, { optimizer }), or call optimizer.step() and ' +
          'optimizer.zeroGrad() in onBatchEnd;\n  to add up more gradients, pass { maxWaiting }.',
      )
    }
    this.#waiting++
  }

  #checkFrozen(): void {
    if (this.#tables.every((table) => table.pendingReads === 0)) return
    const hint = 'Freeze all layers that share the table, or none.'
    const found = 'gradients of a layer that is trained'
    const requirement = 'have an empty table, as the layer is not trainable'
    fail('ERR_UNSUPPORTED', this.#where, 'layer', requirement, found, hint)
  }

  /** Takes back what a backward of a layer that is not trainable has added. */
  #clear(): void {
    for (const p of this.#layer.parameters()) {
      if (p.kind === 'table') p.table.zeroGrad()
      else native.tensorFill(p.grad.handle(this.#where, p.name), 0)
    }
  }

  #check(x: TfTensor): void {
    if (x?.dtype !== 'float32')
      fail('ERR_DTYPE', this.#where, 'x', 'be a float32 tensor', x?.dtype ?? x)
  }

  #fromTf(x: TfTensor): Tensor {
    return this.#layer.device.tensor(x.dataSync() as Float32Array, x.shape)
  }

  #toTf(t: Tensor<'float32'>): TfTensor {
    try {
      return this.#tf.tensor(t.dataSync(), [...t.shape], 'float32')
    } finally {
      t.dispose()
    }
  }
}

export function emptyTensor<T extends TfTensor>(tf: TensorFlow<T>): T {
  return tf.tensor(new Float32Array(0), [0], 'float32')
}

/** @throws ERR_VALUE */
export function checkArguments(where: string, tf: TensorFlow, layer: TableLayer): void {
  const names = ['customGrad', 'engine', 'tensor', 'variable'] as const
  if (!tf || names.some((name) => typeof tf[name] !== 'function')) {
    const hint = "Pass the namespace: import * as tf from '@tensorflow/tfjs'."
    fail('ERR_VALUE', where, 'tf', 'be TensorFlow.js', tf, hint)
  }
  if (!(layer instanceof TableLayer))
    fail('ERR_VALUE', where, 'layer', 'be a MemoryLayer or a PeerLayer', layer)
}

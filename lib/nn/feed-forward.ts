import type { LayerInput } from '../context.js'
import { type Device, expectDevice } from '../device.js'
import * as ops from '../ops.js'
import { choice, integer, options } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { takeRows } from './input.js'
import { DenseModule, type Module, Saved, uniformParameter } from './module.js'

const functions = {
  gelu: [ops.gelu, ops.geluBackward],
  relu: [ops.relu, ops.reluBackward],
  silu: [ops.silu, ops.siluBackward],
} as const

/** Options of {@link FeedForward}. */
export interface FeedForwardOptions {
  /** Model width, in and out. */
  dim: number
  /** Width between the two maps. */
  hiddenDim: number
  /** Default 'gelu'. */
  activation?: keyof typeof functions
  /** Of the initial weights. Default 0. */
  seed?: number
}

/** @internal */
export type Kept = { x: Tensor; a: Tensor; h: Tensor }

/** The dense feed-forward block a memory layer stands in for: `y = W2 f(W1 x + b1) + b2`. */
export class FeedForward extends DenseModule implements Module<Saved<Kept>> {
  protected readonly list: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #activation: keyof typeof functions

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: FeedForwardOptions) {
    super()
    expectDevice('FeedForward', device)
    const where = 'FeedForward'
    const o = options(where, given, ['dim', 'hiddenDim', 'activation', 'seed'])
    this.#device = device
    this.#dim = integer(where, 'dim', o.dim)
    const hidden = integer(where, 'hiddenDim', o.hiddenDim)
    const seed = 4 * integer(where, 'seed', o.seed ?? 0, 0)
    this.#activation = o.activation ?? 'gelu'
    choice(where, 'activation', this.#activation, Object.keys(functions))
    this.list = [
      uniformParameter(device, 'w1.weight', [hidden, this.#dim], this.#dim, seed + 1),
      uniformParameter(device, 'w1.bias', [hidden], this.#dim, seed + 2),
      uniformParameter(device, 'w2.weight', [this.#dim, hidden], hidden, seed + 3),
      uniformParameter(device, 'w2.bias', [this.#dim], hidden, seed + 4),
    ]
  }

  #run(rows: Tensor): { y: Tensor; a: Tensor; h: Tensor } {
    const [w1, b1, w2, b2] = this.list as [
      DenseParameter,
      DenseParameter,
      DenseParameter,
      DenseParameter,
    ]
    const a = ops.linear(rows, w1.value, b1.value)
    const h = functions[this.#activation][0](a)
    return { y: ops.linear(h, w2.value, b2.value), a, h }
  }

  /** @param x `[tokens, dim]` or `[batch, time, dim]` @throws ERR_SHAPE, ERR_DTYPE */
  forward(x: LayerInput): { output: Tensor; context: Saved<Kept> } {
    const { rows, shaped } = takeRows('FeedForward.forward', 'x', x, this.#device, this.#dim)
    const { y, a, h } = this.#run(rows)
    return { output: shaped(y), context: new Saved(this, { x: rows, a, h }) }
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor {
    const { rows, shaped } = takeRows('FeedForward.infer', 'x', x, this.#device, this.#dim)
    const { y, a, h } = this.#run(rows)
    for (const t of [rows, a, h]) t.dispose()
    return shaped(y)
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<Kept>, dy: LayerInput): Tensor {
    const where = 'FeedForward.backward'
    const { rows, shaped } = takeRows(where, 'dy', dy, this.#device, this.#dim)
    const { x, a, h } = context.peek(where, this)
    const [w1, b1, w2, b2] = this.list as [
      DenseParameter,
      DenseParameter,
      DenseParameter,
      DenseParameter,
    ]
    const { dx: dh } = ops.linearBackward(rows, h, w2.value, {
      into: { weight: w2.grad, bias: b2.grad },
    })
    const da = functions[this.#activation][1](dh!, a, { out: dh! })
    const { dx } = ops.linearBackward(da, x, w1.value, { into: { weight: w1.grad, bias: b1.grad } })
    context.dispose()
    for (const t of [rows, dh!]) t.dispose()
    return shaped(dx!)
  }
}

import { disposeOnError } from '../atomically.js'
import { type Compute, checkCompute } from '../compute.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkInteger, checkOptions, checkSeed, choiceIndex } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import {
  DenseModule,
  type ExplicitModule,
  explicitly,
  Saved,
  uniformParameter,
  valuesByName,
} from './explicit-module.js'
import { overRows, toGradientRows, toRows } from './input.js'

const activations = {
  gelu: { forward: ops.gelu, backward: ops.geluBackward },
  relu: { forward: ops.relu, backward: ops.reluBackward },
  silu: { forward: ops.silu, backward: ops.siluBackward },
} as const

/** Options of {@link FeedForward}. */
export interface FeedForwardOptions {
  /** Model width, in and out. */
  dim: number
  /** Width between the two maps. */
  hiddenDim: number
  /** Default 'gelu'. */
  activation?: keyof typeof activations
  /** Of its matrix products. Default 'float32'. */
  compute?: Compute
  /** Of the initial weights. Default: the next of the device's counter. */
  seed?: number
}

/** @internal */
export type FeedForwardSaved = { x: Tensor; a: Tensor; h: Tensor }

/**
 * The dense feed-forward block that a memory layer replaces: `y = W2 f(W1 x + b1) + b2`.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { FeedForward } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const block = new FeedForward(device, { dim: 64, hiddenDim: 256, activation: 'gelu' })
 * const y = block.apply(device.normal([8, 64], { seed: 1 })) // [8, 64]
 * ```
 */
export class FeedForward extends DenseModule implements ExplicitModule<Saved<FeedForwardSaved>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #activation: keyof typeof activations
  readonly #w1: DenseParameter
  readonly #b1: DenseParameter
  readonly #w2: DenseParameter
  readonly #b2: DenseParameter
  readonly #compute: Compute

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: FeedForwardOptions) {
    super()
    const where = 'FeedForward'
    checkDevice(where, device)
    const checked = checkOptions(where, options, [
      'dim',
      'hiddenDim',
      'activation',
      'compute',
      'seed',
    ])
    this.#compute = checkCompute(where, device, checked.compute)
    const dim = checkInteger(where, 'dim', checked.dim)
    const hidden = checkInteger(where, 'hiddenDim', checked.hiddenDim)
    const seed = checkSeed(where, checked.seed)
    const activation = checked.activation ?? 'gelu'
    choiceIndex(where, 'activation', activation, Object.keys(activations))
    this.#device = device
    this.#dim = dim
    this.#activation = activation
    const create = (seed: number) => ({
      w1: uniformParameter(device, 'w1.weight', [hidden, dim], dim, 4 * seed + 1),
      b1: uniformParameter(device, 'w1.bias', [hidden], dim, 4 * seed + 2),
      w2: uniformParameter(device, 'w2.weight', [dim, hidden], hidden, 4 * seed + 3),
      b2: uniformParameter(device, 'w2.bias', [dim], hidden, 4 * seed + 4),
    })
    const made = device.seeds.use(seed, (s) => disposeOnError(() => create(s)))
    const { w1, b1, w2, b2 } = made
    this.#w1 = w1
    this.#b1 = b1
    this.#w2 = w2
    this.#b2 = b2
    this.dense = [w1, b1, w2, b2]
  }

  #run(rows: Tensor): { y: Tensor<'float32'>; a: Tensor; h: Tensor } {
    const options = { compute: this.#compute }
    const a = ops.linear(rows, this.#w1.value, this.#b1.value, options)
    const h = activations[this.#activation].forward(a)
    return { y: ops.linear(h, this.#w2.value, this.#b2.value, options), a, h }
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32
   * @returns the output in the shape of x, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<FeedForwardSaved> } {
    return explicitly(() => {
      const where = 'FeedForward.forward'
      const { rows, restoreShape } = toRows(where, 'x', x, this.#device, this.#dim)
      const { y, a, h } = this.#run(rows)
      const reads = { x: rows, ...valuesByName([this.#w1, this.#w2]) }
      return { output: restoreShape(y), context: new Saved(this, { x: rows, a, h }, reads) }
    })
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor<'float32'> {
    const run = (rows: Tensor) => {
      const { y, a, h } = this.#run(rows)
      for (const t of [a, h]) t.dispose()
      return y
    }
    return explicitly(() => overRows('FeedForward.infer', x, this.#device, this.#dim, run))
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<FeedForwardSaved>, dy: LayerInput): Tensor<'float32'> {
    const where = 'FeedForward.backward'
    return Saved.spend(where, context, this, this.#device, ({ x, a, h }) => {
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(where, dy, this.#device, this.#dim, tokens)
      const { dx: dh } = ops.linearBackward(rows, h, this.#w2.value, {
        into: { weight: this.#w2.grad, bias: this.#b2.grad },
        compute: this.#compute,
      })
      const da = activations[this.#activation].backward(dh, a, { out: dh })
      const { dx } = ops.linearBackward(da, x, this.#w1.value, {
        into: { weight: this.#w1.grad, bias: this.#b1.grad },
        compute: this.#compute,
      })
      for (const t of [rows, dh]) t.dispose()
      return restoreShape(dx)
    })
  }
}

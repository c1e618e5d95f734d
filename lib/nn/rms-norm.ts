import type { LayerInput } from '../context.js'
import { type Device, expectDevice } from '../device.js'
import * as ops from '../ops.js'
import { integer, number, options } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { takeRows } from './input.js'
import { DenseModule, type Module, parameter, Saved } from './module.js'

/** Options of {@link RmsNorm}. */
export interface RmsNormOptions {
  /** Width of the rows. */
  dim: number
  /** Default 1e-6. */
  eps?: number
}

/** RMS norm with a learned gain (Zhang and Sennrich 2019). */
export class RmsNorm extends DenseModule implements Module<Saved<{ x: Tensor }>> {
  protected readonly list: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #eps: number

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: RmsNormOptions) {
    super()
    expectDevice('RmsNorm', device)
    const o = options('RmsNorm', given, ['dim', 'eps'])
    this.#device = device
    this.#dim = integer('RmsNorm', 'dim', o.dim)
    this.#eps = number('RmsNorm', 'eps', o.eps ?? 1e-6, 0)
    this.list = [parameter(device, 'weight', device.tensor(new Float32Array(this.#dim).fill(1)))]
  }

  /** @param x `[tokens, dim]` or `[batch, time, dim]` @throws ERR_SHAPE, ERR_DTYPE */
  forward(x: LayerInput): { output: Tensor; context: Saved<{ x: Tensor }> } {
    const { rows, shaped } = takeRows('RmsNorm.forward', 'x', x, this.#device, this.#dim)
    const output = shaped(ops.rmsNorm(rows, this.list[0]!.value, { eps: this.#eps }))
    return { output, context: new Saved(this, { x: rows }) }
  }

  /** Adds to the gain's gradient and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<{ x: Tensor }>, dy: LayerInput): Tensor {
    const { rows, shaped } = takeRows('RmsNorm.backward', 'dy', dy, this.#device, this.#dim)
    const { x } = context.peek('RmsNorm.backward', this)
    const gain = this.list[0]!
    const { dx } = ops.rmsNormBackward(rows, x, gain.value, {
      eps: this.#eps,
      into: { gain: gain.grad },
    })
    context.dispose()
    rows.dispose()
    return shaped(dx)
  }
}

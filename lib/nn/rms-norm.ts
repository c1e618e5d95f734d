import { disposeOnError } from '../atomically.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import { constantTensor } from '../new-tensor.js'
import * as ops from '../ops.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import {
  DenseModule,
  type ExplicitModule,
  explicitly,
  newParameter,
  Saved,
} from './explicit-module.js'
import { overRows, toGradientRows, toRows } from './input.js'

/** Options of {@link RmsNorm}. */
export interface RmsNormOptions {
  /** Width of the rows. */
  dim: number
  /** Default 1e-6. */
  eps?: number
}

/**
 * RMS norm with a learned gain `weight` `[dim]` (Zhang and Sennrich 2019).
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { RmsNorm } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const norm = new RmsNorm(device, { dim: 64 })
 * const y = norm.apply(device.normal([8, 64], { seed: 1 })) // rows of mean square 1
 * ```
 */
export class RmsNorm extends DenseModule implements ExplicitModule<Saved<{ x: Tensor }>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #dim: number
  readonly #eps: number
  readonly #gain: DenseParameter

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: RmsNormOptions) {
    super()
    const where = 'RmsNorm'
    checkDevice(where, device)
    const { dim, eps } = checkOptions(where, options, ['dim', 'eps'])
    this.#device = device
    this.#dim = checkInteger(where, 'dim', dim)
    this.#eps = checkNumber(where, 'eps', eps ?? 1e-6, 0)
    this.#gain = disposeOnError(() =>
      newParameter(device, 'weight', constantTensor(where, device, [this.#dim], 1)),
    )
    this.dense = [this.#gain]
  }

  /**
   * @param x `[tokens, dim]` or `[batch, time, dim]` float32
   * @returns the output in the shape of x, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<{ x: Tensor }> } {
    return explicitly(() => {
      const { rows, restoreShape } = toRows('RmsNorm.forward', 'x', x, this.#device, this.#dim)
      const output = restoreShape(ops.rmsNorm(rows, this.#gain.value, { eps: this.#eps }))
      const reads = { x: rows, weight: this.#gain.value }
      return { output, context: new Saved(this, { x: rows }, reads) }
    })
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor<'float32'> {
    const run = (rows: Tensor) => ops.rmsNorm(rows, this.#gain.value, { eps: this.#eps })
    return explicitly(() => overRows('RmsNorm.infer', x, this.#device, this.#dim, run))
  }

  /** Adds to the gain's gradient and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<{ x: Tensor }>, dy: LayerInput): Tensor<'float32'> {
    const where = 'RmsNorm.backward'
    return Saved.spend(where, context, this, this.#device, ({ x }) => {
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(where, dy, this.#device, this.#dim, tokens)
      const { dx } = ops.rmsNormBackward(rows, x, this.#gain.value, {
        eps: this.#eps,
        into: { gain: this.#gain.grad },
      })
      rows.dispose()
      return restoreShape(dx)
    })
  }
}

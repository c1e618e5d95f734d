import { disposeOnError } from '../atomically.js'
import { checkDevice, type Device } from '../device.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkBoolean, checkInteger, checkOptions } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { toGradientRows, toRows } from './input.js'
import { DenseModule, explicitly, type Module, Saved, uniformParameter } from './module.js'

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Width of the input. */
  inputDim: number
  /** Width of the output. */
  outputDim: number
  /** Default true. */
  bias?: boolean
  /** Of the initial weights. Default 0. */
  seed?: number
}

/** `y = x W^T + b`, W `[outputDim, inputDim]`. */
export class Linear extends DenseModule implements Module<Saved<{ x: Tensor }>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #inputDim: number
  readonly #outputDim: number
  readonly #weight: DenseParameter
  readonly #bias: DenseParameter | undefined

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: LinearOptions) {
    super()
    const where = 'Linear'
    checkDevice(where, device)
    const checked = checkOptions(where, options, ['inputDim', 'outputDim', 'bias', 'seed'])
    const inputDim = checkInteger(where, 'inputDim', checked.inputDim)
    const outputDim = checkInteger(where, 'outputDim', checked.outputDim)
    const seed = 2 * checkInteger(where, 'seed', checked.seed ?? 0, 0)
    const hasBias = checkBoolean(where, 'bias', checked.bias ?? true)
    this.#device = device
    this.#inputDim = inputDim
    this.#outputDim = outputDim
    const shape = [outputDim, inputDim]
    const { weight, bias } = disposeOnError(() => ({
      weight: uniformParameter(device, 'weight', shape, inputDim, seed + 1),
      bias: hasBias ? uniformParameter(device, 'bias', [outputDim], inputDim, seed + 2) : undefined,
    }))
    this.#weight = weight
    this.#bias = bias
    this.dense = bias ? [weight, bias] : [weight]
  }

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @returns the output with the same leading axes, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<{ x: Tensor }> } {
    return explicitly(() => {
      const { rows, restoreShape } = toRows('Linear.forward', 'x', x, this.#device, this.#inputDim)
      const output = restoreShape(ops.linear(rows, this.#weight.value, this.#bias?.value))
      const reads = { x: rows, weight: this.#weight.value }
      return { output, context: new Saved(this, { x: rows }, reads) }
    })
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor<'float32'> {
    return explicitly(() => {
      const { rows, restoreShape } = toRows('Linear.infer', 'x', x, this.#device, this.#inputDim)
      const output = restoreShape(ops.linear(rows, this.#weight.value, this.#bias?.value))
      rows.dispose()
      return output
    })
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<{ x: Tensor }>, dy: LayerInput): Tensor<'float32'> {
    const where = 'Linear.backward'
    return Saved.spend(where, context, this, this.#device, ({ x }) => {
      const tokens = x.shape[0]!
      const { rows, restoreShape } = toGradientRows(
        where,
        dy,
        this.#device,
        this.#outputDim,
        tokens,
      )
      const { dx } = ops.linearBackward(rows, x, this.#weight.value, {
        needs: { x: true, weight: true, bias: this.#bias !== undefined },
        into: { weight: this.#weight.grad, ...(this.#bias && { bias: this.#bias.grad }) },
      })
      rows.dispose()
      return restoreShape(dx)
    })
  }
}

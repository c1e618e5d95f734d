import type { LayerInput } from '../context.js'
import { type Device, expectDevice } from '../device.js'
import * as ops from '../ops.js'
import { boolean, integer, options } from '../options.js'
import type { DenseParameter } from '../parameter.js'
import type { Tensor } from '../tensor.js'
import { takeRows } from './input.js'
import { DenseModule, type Module, Saved, uniformParameter } from './module.js'

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
  protected readonly list: readonly DenseParameter[]
  readonly #device: Device
  readonly #inputDim: number
  readonly #outputDim: number
  readonly #weight: DenseParameter
  readonly #bias: DenseParameter | undefined

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, given: LinearOptions) {
    super()
    expectDevice('Linear', device)
    const o = options('Linear', given, ['inputDim', 'outputDim', 'bias', 'seed'])
    this.#device = device
    this.#inputDim = integer('Linear', 'inputDim', o.inputDim)
    this.#outputDim = integer('Linear', 'outputDim', o.outputDim)
    const seed = integer('Linear', 'seed', o.seed ?? 0, 0)
    this.#weight = uniformParameter(
      device,
      'weight',
      [this.#outputDim, this.#inputDim],
      this.#inputDim,
      seed * 2 + 1,
    )
    if (boolean('Linear', 'bias', o.bias ?? true))
      this.#bias = uniformParameter(device, 'bias', [this.#outputDim], this.#inputDim, seed * 2 + 2)
    this.list = this.#bias ? [this.#weight, this.#bias] : [this.#weight]
  }

  /** @param x `[tokens, inputDim]` or `[batch, time, inputDim]` @throws ERR_SHAPE, ERR_DTYPE */
  forward(x: LayerInput): { output: Tensor; context: Saved<{ x: Tensor }> } {
    const { rows, shaped } = takeRows('Linear.forward', 'x', x, this.#device, this.#inputDim)
    const output = shaped(ops.linear(rows, this.#weight.value, this.#bias?.value))
    return { output, context: new Saved(this, { x: rows }) }
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor {
    const { rows, shaped } = takeRows('Linear.infer', 'x', x, this.#device, this.#inputDim)
    const output = shaped(ops.linear(rows, this.#weight.value, this.#bias?.value))
    rows.dispose()
    return output
  }

  /** Adds to the gradients and returns dx. @throws ERR_CONTEXT, ERR_SHAPE */
  backward(context: Saved<{ x: Tensor }>, dy: LayerInput): Tensor {
    const { rows, shaped } = takeRows('Linear.backward', 'dy', dy, this.#device, this.#outputDim)
    const { x } = context.peek('Linear.backward', this)
    const { dx } = ops.linearBackward(rows, x, this.#weight.value, {
      needs: { x: true, weight: true, bias: this.#bias !== undefined },
      into: { weight: this.#weight.grad, ...(this.#bias && { bias: this.#bias.grad }) },
    })
    context.dispose()
    rows.dispose()
    return shaped(dx!)
  }
}

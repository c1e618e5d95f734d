import { disposeOnError } from '../atomically.js'
import { type Compute, checkCompute } from '../compute.js'
import { isInstance } from '../describe.js'
import { checkDevice, type Device } from '../device.js'
import { fail } from '../errors.js'
import type { LayerInput } from '../layer-input.js'
import * as ops from '../ops.js'
import { checkBoolean, checkInteger, checkOptions, checkSeed } from '../options.js'
import { type DenseParameter, type Parameter, tableParameter } from '../parameter.js'
import { formatShape, type Tensor, tensorHandle } from '../tensor.js'
import { ValueTable } from '../value-table.js'
import {
  DenseModule,
  type ExplicitModule,
  explicitly,
  Saved,
  uniformParameter,
} from './explicit-module.js'
import { overRows, toGradientRows, toRows } from './input.js'

/** Options of {@link Linear}. */
export interface LinearOptions {
  /** Width of the input. */
  inputDim: number
  /** Width of the output. */
  outputDim: number
  /** Default true. */
  bias?: boolean
  /**
   * A table `[outputDim, inputDim]` of float32, bfloat16 or float16 whose rows are the weight: an
   * output head that is tied to an embedding. Its gradient, of all rows, and the reads of those who
   * share the table meet in one update. Left out: a weight of its own.
   */
  weight?: ValueTable
  /** Of its matrix products. Default 'float32'. */
  compute?: Compute
  /** Of the initial weights. Default: the next of the device's counter. */
  seed?: number
}

/**
 * `y = x W^T + b`, W `[outputDim, inputDim]`.
 *
 * ```ts
 * import { openDevice } from 'memory-layers'
 * import { Linear } from 'memory-layers/nn'
 *
 * const device = openDevice()
 * const linear = new Linear(device, { inputDim: 64, outputDim: 10 })
 * const x = device.normal([8, 64], { seed: 1 }).requireGrad()
 * const y = linear.apply(x) // [8, 10]
 * y.backward(device.normal([8, 10], { seed: 2 })) // x.grad, and those of weight and bias
 * ```
 */
export class Linear extends DenseModule implements ExplicitModule<Saved<{ x: Tensor }>> {
  protected readonly dense: readonly DenseParameter[]
  readonly #device: Device
  readonly #inputDim: number
  readonly #outputDim: number
  /** A weight of its own, or the table whose rows it is. */
  readonly #own: DenseParameter | undefined
  readonly #table: ValueTable | undefined
  readonly #value: Tensor
  readonly #bias: DenseParameter | undefined
  readonly #compute: Compute

  /** @throws ERR_DEVICE, ERR_OPTION, ERR_VALUE */
  constructor(device: Device, options: LinearOptions) {
    super()
    const where = 'Linear'
    checkDevice(where, device)
    const names = ['inputDim', 'outputDim', 'bias', 'weight', 'compute', 'seed']
    const checked = checkOptions(where, options, names)
    this.#compute = checkCompute(where, device, checked.compute)
    const inputDim = checkInteger(where, 'inputDim', checked.inputDim)
    const outputDim = checkInteger(where, 'outputDim', checked.outputDim)
    const seed = checkSeed(where, checked.seed)
    const hasBias = checkBoolean(where, 'bias', checked.bias ?? true)
    this.#device = device
    this.#inputDim = inputDim
    this.#outputDim = outputDim
    const shape = [outputDim, inputDim]
    const table =
      checked.weight === undefined ? undefined : checkTied(where, checked.weight, device, shape)
    const create = (seed: number) => {
      const parameter = (name: string, shape: readonly number[], offset: number) =>
        uniformParameter(device, name, shape, inputDim, 2 * seed + offset)
      return {
        own: table ? undefined : parameter('weight', shape, 1),
        bias: hasBias ? parameter('bias', [outputDim], 2) : undefined,
      }
    }
    const { own, bias } = device.seeds.use(seed, (s) => disposeOnError(() => create(s)))
    this.#own = own
    this.#table = table
    this.#value = table?.weight ?? own!.value
    this.#bias = bias
    this.dense = [own, bias].filter((p) => p !== undefined)
  }

  /** `[outputDim, inputDim]`: its own, or the rows of the table that it was given. */
  get weight(): Tensor {
    return this.#value
  }

  /** The weight, which may be a table's, and the bias. */
  override parameters(): readonly Parameter[] {
    const table = this.#table
    return table ? [tableParameter('weight', table), ...this.dense] : this.dense
  }

  /**
   * @param x `[tokens, inputDim]` or `[batch, time, inputDim]` float32
   * @returns the output with the same leading axes, and a context for one backward
   * @throws ERR_SHAPE, ERR_DTYPE
   */
  forward(x: LayerInput): { output: Tensor<'float32'>; context: Saved<{ x: Tensor }> } {
    return explicitly(() => {
      const { rows, restoreShape } = toRows('Linear.forward', 'x', x, this.#device, this.#inputDim)
      const output = restoreShape(this.#run(rows))
      const reads = { x: rows, weight: this.#value }
      return { output, context: new Saved(this, { x: rows }, reads) }
    })
  }

  /** The output alone. */
  override infer(x: LayerInput): Tensor<'float32'> {
    const where = 'Linear.infer'
    const run = (rows: Tensor) => this.#run(rows)
    return explicitly(() => overRows(where, x, this.#device, this.#inputDim, run))
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
      const dWeight = this.#own?.grad ?? this.#table?.denseGradient()
      const { dx } = this.#withWeight((weight) =>
        ops.linearBackward(rows, x, weight, {
          needs: { x: true, weight: dWeight !== undefined, bias: this.#bias !== undefined },
          into: { weight: dWeight, bias: this.#bias?.grad },
          compute: this.#compute,
        }),
      )
      rows.dispose()
      return restoreShape(dx as Tensor<'float32'>)
    })
  }

  #run(rows: Tensor): Tensor<'float32'> {
    const options = { compute: this.#compute }
    return this.#withWeight((weight) => ops.linear(rows, weight, this.#bias?.value, options))
  }

  /** Runs `body` on the weight, of which products in float32 take a copy where it has 16 bits. */
  #withWeight<T>(body: (weight: Tensor) => T): T {
    const value = this.#value
    const fits = value.dtype === 'float32' || this.#compute === 'bfloat16'
    const copy = fits ? undefined : value.to('float32')
    const result = body(copy ?? value)
    copy?.dispose()
    return result
  }
}

/** A table of a shape and on a device, with rows that can be multiplied by. */
function checkTied(
  where: string,
  table: unknown,
  device: Device,
  [outputDim, inputDim]: readonly number[],
): ValueTable {
  if (!isInstance(table, ValueTable)) fail('ERR_VALUE', where, 'weight', 'be a ValueTable', table)
  tensorHandle(where, 'weight', table.weight, device)
  const { shape, dtype } = table.weight
  const [wanted, found] = [formatShape([outputDim!, inputDim!]), formatShape(shape)]
  if (found !== wanted)
    fail('ERR_SHAPE', where, 'weight', `have shape [outputDim, inputDim] ${wanted}`, found)
  if (dtype === 'int8') fail('ERR_DTYPE', where, 'weight', 'be float32, bfloat16 or float16', dtype)
  return table
}

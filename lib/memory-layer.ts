import { native } from './binding.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import { checkShared, TableLayer } from './layer.js'
import { boolean, choice, integer, options } from './options.js'
import { tableParameter } from './parameter.js'
import { checkQuery, type QueryOptions, queryOptionNames } from './query-options.js'
import { ValueTable } from './value-table.js'

/** Options of {@link MemoryLayer}. */
export interface MemoryLayerOptions extends QueryOptions {
  /** Width of the output. Default inputDim. */
  outputDim?: number
  /** Width of a value row, V. Default: the shared table's, else outputDim. */
  valueDim?: number
  /** A table of nKeys*nKeys slots to share with other layers. Left out: a table of its own. */
  values?: ValueTable
  /** 'silu' (default) is Memory+: `W2 (y * silu(W1 x))`; 'none' gives the bag itself. */
  gate?: 'silu' | 'none'
  /** Multiplies the output by `sigmoid(w . x + b)`. Default false. */
  outputGate?: boolean
  /** Of a table of its own. Default 'float32'. */
  dtype?: 'float32' | 'bfloat16' | 'float16'
}

/**
 * A memory layer (Berges et al. 2024, section 2): a query per head finds the k best of n*n slots by
 * product keys; their value rows are summed with softmax weights, gated by `silu(W1 x)` and
 * projected. Forward and backward are one native call each.
 */
export class MemoryLayer extends TableLayer {
  /** The value table, its own or shared. */
  readonly values: ValueTable
  readonly #shared: boolean

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: MemoryLayerOptions) {
    const where = 'MemoryLayer'
    const o = options(where, given, [
      ...queryOptionNames,
      'outputDim',
      'valueDim',
      'values',
      'gate',
      'outputGate',
      'dtype',
    ])
    const q = checkQuery(where, device, o)
    const outputDim = integer(where, 'outputDim', o.outputDim ?? q.inputDim)
    const silu = choice(where, 'gate', o.gate ?? 'silu', ['none', 'silu']) === 1
    const outputGate = boolean(where, 'outputGate', o.outputGate ?? false)
    const values = tableOf(where, device, o, q.nKeys * q.nKeys, outputDim, q.seed)
    const handle = native.memoryLayerCreate(
      device.handle,
      values.handle,
      q.inputDim,
      q.heads,
      q.knn,
      q.nKeys,
      q.keyDim,
      q.queryBias,
      q.queryNorm,
      q.seed,
      outputDim,
      silu,
      outputGate,
    )
    super(where, device, q.inputDim, outputDim, {
      parameters: handle.parameters,
      forward: (x) => native.memoryLayerForward(handle, x),
      infer: (x) => native.memoryLayerInfer(handle, x),
      backward: (context, dy) => native.memoryLayerBackward(handle, context, dy),
      dispose: () => native.layerDispose(handle),
    })
    this.values = values
    this.#shared = o.values !== undefined
  }

  /** @internal */
  protected override tables() {
    return [{ parameter: tableParameter('values.weight', this.values), own: !this.#shared }]
  }
}

/** The shared table, checked, or a new one. */
function tableOf(
  where: string,
  device: Device,
  o: Partial<MemoryLayerOptions>,
  slots: number,
  outputDim: number,
  seed: number,
): ValueTable {
  const valueDim = o.valueDim === undefined ? undefined : integer(where, 'valueDim', o.valueDim)
  if (o.values === undefined) {
    const dim = valueDim ?? outputDim
    const dtype = o.dtype ?? 'float32'
    choice(where, 'dtype', dtype, ['float32', 'bfloat16', 'float16'])
    return new ValueTable(device, { slots, dim, dtype, init: { std: 1 / Math.sqrt(dim), seed } })
  }
  const shared = checkShared(where, o.values, device, slots, valueDim)
  if (o.dtype !== undefined && o.dtype !== shared.dtype)
    fail('ERR_DTYPE', where, 'dtype', `be left out or ${shared.dtype}, the shared table's`, o.dtype)
  return shared
}

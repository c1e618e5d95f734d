import { disposeOnError } from './atomically.js'
import { native } from './binding.js'
import { computeCode } from './compute.js'
import { checkDevice, type Device } from './device.js'
import { fail } from './errors.js'
import { checkSharedTable, type LayerConfig, TableLayer } from './layer.js'
import { checkBoolean, checkInteger, checkOptions, checkProduct, choiceIndex } from './options.js'
import { tableParameter } from './parameter.js'
import {
  type CheckedQuery,
  checkQuery,
  type QueryOptions,
  queryArguments,
  queryConfig,
  queryOptionNames,
} from './query-options.js'
import type { ShardOptions } from './sharding/columns.js'
import { shardedMemoryLayer } from './sharding/memory-layer.js'
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
  /** Of a table of its own: divides it among ranks, as `shard` of a `ValueTable`. */
  shard?: ShardOptions
}

/**
 * A memory layer (Berges et al. 2024, section 2): a query per head finds the k best of n*n slots by
 * product keys; their value rows are summed with softmax weights, gated by `silu(W1 x)` and
 * projected. Forward and backward are one native call each.
 *
 * ```ts
 * import { AdamW, MemoryLayer, openDevice } from 'memory-layers'
 *
 * const device = openDevice()
 * const layer = new MemoryLayer(device, { inputDim: 64, heads: 4, knn: 8, nKeys: 32, keyDim: 64 })
 * const optimizer = new AdamW(layer.parameters(), { lr: 1e-3, tableLr: 1e-2 })
 * const x = device.normal([8, 64], { seed: 1 })
 * const y = layer.apply(x) // [8, 64]
 * y.backward(device.normal([8, 64], { seed: 2 }))
 * optimizer.step() // touches the rows that were read
 * optimizer.zeroGrad()
 * ```
 */
export class MemoryLayer extends TableLayer {
  /** The value table, its own or shared. */
  readonly values: ValueTable
  /** @internal */
  readonly config: LayerConfig
  readonly #shared: boolean

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, options: MemoryLayerOptions) {
    const where = 'MemoryLayer'
    const checked = checkOptions(where, options, [
      ...queryOptionNames,
      'outputDim',
      'valueDim',
      'values',
      'gate',
      'outputGate',
      'dtype',
      'shard',
    ])
    checkDevice(where, device)
    const compute = computeCode(where, device, checked.compute)
    const query = checkQuery(where, checked)
    const outputDim = checkInteger(where, 'outputDim', checked.outputDim ?? query.inputDim)
    const siluGate = choiceIndex(where, 'gate', checked.gate ?? 'silu', ['none', 'silu']) === 1
    const outputGate = checkBoolean(where, 'outputGate', checked.outputGate ?? false)
    const create = (seed: number) => {
      const values = sharedOrNewTable(where, device, checked, { ...query, seed }, outputDim)
      checkProduct(where, { valueDim: values.dim, inputDim: query.inputDim })
      checkProduct(where, { valueDim: values.dim, outputDim })
      const handle = native.memoryLayerCreate(
        device.handle,
        values.handle,
        ...queryArguments({ ...query, seed }, compute),
        values.dim,
        outputDim,
        siluGate,
        outputGate,
      )
      return { values, handle }
    }
    const { values, handle } = device.seeds.use(checked.seed, (seed) =>
      disposeOnError(() => create(seed)),
    )
    super(where, device, query.inputDim, outputDim, {
      parameters: handle.parameters,
      ...(values.shard
        ? shardedMemoryLayer(handle, device, values, values.shard)
        : {
            forward: (x) => native.memoryLayerForward(handle, x),
            infer: (x) => native.memoryLayerInfer(handle, x),
            backward: (context, dy) => native.memoryLayerBackward(handle, context, dy),
          }),
      usage: () => native.memoryLayerUsage(handle),
      dispose: () => native.layerDispose(handle),
    })
    this.values = values
    this.#shared = checked.values !== undefined
    this.config = {
      ...queryConfig(query),
      outputDim,
      outputGate,
      gate: siluGate ? 'silu' : 'none',
      valueDim: values.dim,
      dtype: values.dtype,
    }
  }

  /** @internal */
  protected override tables() {
    return [{ parameter: tableParameter('values.weight', this.values), own: !this.#shared }]
  }
}

/** The table the caller shares, checked, or a new one. */
function sharedOrNewTable(
  where: string,
  device: Device,
  options: Partial<MemoryLayerOptions>,
  { nKeys, seed }: CheckedQuery,
  outputDim: number,
): ValueTable {
  const { values, valueDim, dtype, shard } = options
  const slots = nKeys * nKeys
  const width = valueDim === undefined ? undefined : checkInteger(where, 'valueDim', valueDim)
  if (values === undefined) {
    const dim = width ?? outputDim
    choiceIndex(where, 'dtype', dtype ?? 'float32', ['float32', 'bfloat16', 'float16'])
    const init = { std: 1 / Math.sqrt(dim), seed }
    return new ValueTable(device, { slots, dim, dtype, init, ...(shard && { shard }) })
  }
  if (shard !== undefined)
    fail('ERR_OPTION', where, 'shard', 'be left out, as "values" says it', shard)
  const shared = checkSharedTable(where, values, device, slots, width)
  if (dtype !== undefined && dtype !== shared.dtype) {
    const requirement = `be left out or ${shared.dtype}, the shared table's`
    fail('ERR_DTYPE', where, 'dtype', requirement, dtype)
  }
  return shared
}

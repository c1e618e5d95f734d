import { disposeOnError } from './atomically.js'
import { native } from './binding.js'
import { computeCode } from './compute.js'
import { isInstance } from './describe.js'
import { checkDevice, type Device } from './device.js'
import { fail } from './errors.js'
import { checkSharedTable, type LayerConfig, TableLayer } from './layer.js'
import { activationCode } from './ops.js'
import { checkInteger, checkOptions, choiceIndex } from './options.js'
import { tableParameter } from './parameter.js'
import {
  checkQuery,
  type QueryOptions,
  queryArguments,
  queryConfig,
  queryOptionNames,
} from './query-options.js'
import type { ShardOptions } from './sharding/columns.js'
import { shardedPeerLayer } from './sharding/peer-layer.js'
import { ValueTable } from './value-table.js'

const tableDTypes = ['float32', 'bfloat16', 'float16'] as const
/** Dtypes of PEER's tables. */
type PeerTableDType = (typeof tableDTypes)[number]

/** Options of {@link PeerLayer}. */
export interface PeerLayerOptions extends QueryOptions {
  /** Width of the output. Default: the shared `up` table's, else inputDim. */
  outputDim?: number
  /** Default 'gelu' (exact). */
  activation?: 'gelu' | 'relu'
  /** A table `[nKeys*nKeys, inputDim]` to share. Left out: one of its own. */
  down?: ValueTable
  /** A table `[nKeys*nKeys, outputDim]` to share. Left out: one of its own. */
  up?: ValueTable
  /** Of tables of its own; both have one dtype. Default: the shared table's, else 'float32'. */
  dtype?: PeerTableDType
  /** Of tables of its own: divides both among ranks, as `shard` of a `ValueTable`. */
  shard?: ShardOptions
}

/**
 * Parameter-efficient expert retrieval (PEER, He 2024): product keys choose k experts a head, each
 * one hidden unit: `output = sum_l w_l f(<x, down_l>) up_l`. Published names `values_u` (down) and
 * `values_v` (up).
 *
 * ```ts
 * import { openDevice, PeerLayer } from 'memory-layers'
 *
 * const device = openDevice()
 * const peer = new PeerLayer(device, { inputDim: 64, heads: 4, knn: 8, nKeys: 32, keyDim: 64 })
 * const y = peer.apply(device.normal([8, 64], { seed: 1 })) // 32 of 1,024 experts a token
 * ```
 */
export class PeerLayer extends TableLayer {
  /** What each expert reads: `[nKeys*nKeys, inputDim]`. */
  readonly down: ValueTable
  /** What each expert writes: `[nKeys*nKeys, outputDim]`. */
  readonly up: ValueTable
  /** @internal */
  readonly config: LayerConfig
  readonly #own: readonly ValueTable[]

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, options: PeerLayerOptions) {
    const where = 'PeerLayer'
    const checked = checkOptions(where, options, [
      ...queryOptionNames,
      'outputDim',
      'activation',
      'down',
      'up',
      'dtype',
      'shard',
    ])
    checkDevice(where, device)
    const compute = computeCode(where, device, checked.compute)
    const query = checkQuery(where, checked)
    const activation = checked.activation ?? 'gelu'
    choiceIndex(where, 'activation', activation, ['gelu', 'relu'])
    const sharedDType = [checked.down, checked.up].find((t) => isInstance(t, ValueTable))?.dtype
    const dtype = (checked.dtype ?? sharedDType ?? 'float32') as PeerTableDType
    choiceIndex(where, 'dtype', dtype, tableDTypes)
    const shared = isInstance(checked.up, ValueTable) ? checked.up : undefined
    const width = checked.outputDim ?? shared?.dim ?? query.inputDim
    const outputDim = checkInteger(where, 'outputDim', width)
    const slots = query.nKeys * query.nKeys
    const own: ValueTable[] = []
    const sharedOrNewTable = (name: 'down' | 'up', dim: number, seed: number): ValueTable => {
      const shared = checked[name]
      if (shared !== undefined) {
        const table = checkSharedTable(where, shared, device, slots, dim, name)
        if (table.dtype !== dtype) fail('ERR_DTYPE', where, name, `be ${dtype}`, table.dtype)
        return table
      }
      const init = { std: 1 / Math.sqrt(dim), seed }
      const { shard } = checked
      const table = new ValueTable(device, { slots, dim, dtype, init, ...(shard && { shard }) })
      own.push(table)
      return table
    }
    const create = (seed: number) => {
      const down = sharedOrNewTable('down', query.inputDim, 2 * seed)
      const up = sharedOrNewTable('up', outputDim, 2 * seed + 1)
      checkOneGroup(where, down, up)
      const handle = native.peerLayerCreate(
        device.handle,
        down.handle,
        up.handle,
        ...queryArguments({ ...query, seed }, compute),
        outputDim,
        activationCode(where, activation),
      )
      return { down, up, handle }
    }
    const { down, up, handle } = device.seeds.use(checked.seed, (seed) =>
      disposeOnError(() => create(seed)),
    )
    super(where, device, query.inputDim, outputDim, {
      parameters: handle.parameters,
      ...(down.shard && up.shard
        ? shardedPeerLayer(handle, device, {
            down,
            up,
            columnsOfDown: down.shard,
            columnsOfUp: up.shard,
            outputDim,
            activation,
          })
        : {
            forward: (x) => native.peerLayerForward(handle, x),
            infer: (x) => native.peerLayerInfer(handle, x),
            backward: (context, dy) => native.peerLayerBackward(handle, context, dy),
          }),
      usage: () => native.peerLayerUsage(handle),
      dispose: () => native.peerDispose(handle),
    })
    this.down = down
    this.up = up
    this.#own = own
    this.config = { ...queryConfig(query), outputDim, activation, dtype }
  }

  /** @internal */
  protected override tables() {
    const { down, up } = this
    return [
      { parameter: tableParameter('values_u.weight', down), own: this.#own.includes(down) },
      { parameter: tableParameter('values_v.weight', up), own: this.#own.includes(up) },
    ]
  }
}

/** Both tables are divided among the ranks of one group, or neither. */
function checkOneGroup(where: string, down: ValueTable, up: ValueTable): void {
  if (down.shard?.group === up.shard?.group) return
  const hint = 'Give both tables the same shard.group.'
  fail('ERR_VALUE', where, 'up', 'be divided as "down" is', up, hint)
}

import { native } from './binding.js'
import type { Device } from './device.js'
import { checkShared, TableLayer } from './layer.js'
import { activationCode } from './ops.js'
import { choice, integer, options } from './options.js'
import { tableParameter } from './parameter.js'
import { checkQuery, type QueryOptions, queryOptionNames } from './query-options.js'
import { ValueTable } from './value-table.js'

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
  /** Of tables of its own. Default 'float32'. */
  dtype?: 'float32'
}

/**
 * Parameter-efficient expert retrieval (PEER, He 2024): product keys choose k experts a head, each
 * one hidden unit: `output = sum_l w_l f(<x, down_l>) up_l`. Published names `values_u` (down) and
 * `values_v` (up).
 */
export class PeerLayer extends TableLayer {
  /** What each expert reads: `[nKeys*nKeys, inputDim]`. */
  readonly down: ValueTable
  /** What each expert writes: `[nKeys*nKeys, outputDim]`. */
  readonly up: ValueTable
  readonly #own: readonly ValueTable[]

  /** @throws ERR_OPTION, ERR_VALUE, ERR_SHAPE, ERR_DEVICE_MISMATCH, ERR_OUT_OF_MEMORY */
  constructor(device: Device, given: PeerLayerOptions) {
    const where = 'PeerLayer'
    const o = options(where, given, [
      ...queryOptionNames,
      'outputDim',
      'activation',
      'down',
      'up',
      'dtype',
    ])
    const q = checkQuery(where, device, o)
    choice(where, 'activation', o.activation ?? 'gelu', ['gelu', 'relu'])
    choice(where, 'dtype', o.dtype ?? 'float32', ['float32'])
    const outputDim = integer(where, 'outputDim', o.outputDim ?? o.up?.dim ?? q.inputDim)
    const slots = q.nKeys * q.nKeys
    const own: ValueTable[] = []
    const tableOf = (name: 'down' | 'up', dim: number, seed: number): ValueTable => {
      const shared = o[name]
      if (shared !== undefined) return checkShared(where, shared, device, slots, dim, name)
      const table = new ValueTable(device, { slots, dim, init: { std: 1 / Math.sqrt(dim), seed } })
      own.push(table)
      return table
    }
    const down = tableOf('down', q.inputDim, 2 * q.seed)
    const up = tableOf('up', outputDim, 2 * q.seed + 1)
    const handle = native.peerLayerCreate(
      device.handle,
      down.handle,
      up.handle,
      q.inputDim,
      q.heads,
      q.knn,
      q.nKeys,
      q.keyDim,
      q.queryBias,
      q.queryNorm,
      q.seed,
      activationCode(where, o.activation ?? 'gelu'),
    )
    super(where, device, q.inputDim, outputDim, {
      parameters: handle.parameters,
      forward: (x) => native.peerLayerForward(handle, x),
      infer: (x) => native.peerLayerInfer(handle, x),
      backward: (context, dy) => native.peerLayerBackward(handle, context, dy),
      dispose: () => native.peerDispose(handle),
    })
    this.down = down
    this.up = up
    this.#own = own
  }

  /** @internal */
  protected override tables() {
    return [
      {
        parameter: tableParameter('values_u.weight', this.down),
        own: this.#own.includes(this.down),
      },
      { parameter: tableParameter('values_v.weight', this.up), own: this.#own.includes(this.up) },
    ]
  }
}

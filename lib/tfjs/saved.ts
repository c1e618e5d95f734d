// Layers in the configuration of a saved TensorFlow.js model.

import type { Device } from '../device.js'
import { fail } from '../errors.js'
import type { LayerConfig, TableLayer } from '../layer.js'
import { MemoryLayer, type MemoryLayerOptions } from '../memory-layer.js'
import { PeerLayer, type PeerLayerOptions } from '../peer-layer.js'
import { ValueTable, type ValueTableOptions } from '../value-table.js'

interface SavedTable {
  /** The same for every layer of the model that reads the table. */
  id: string
  slots: number
  dim: number
  dtype: string
}

// Keys and strings must survive a change to snake case and back.
interface SavedForm {
  kind: 'memory' | 'peer'
  options: LayerConfig
  /** Shared tables by the name of their option. */
  tables: Record<string, SavedTable>
}

const tableIds = new WeakMap<ValueTable, string>()
let tableCount = 0

function idOf(table: ValueTable): string {
  const id = tableIds.get(table) ?? `table${++tableCount}`
  tableIds.set(table, id)
  return id
}

/** @throws ERR_UNSUPPORTED for a table that stays in a file */
export function savedForm(where: string, layer: TableLayer): { memory: SavedForm } {
  const kind = layer instanceof PeerLayer ? 'peer' : 'memory'
  const shared = layer.sharedTables()
  const tables: Record<string, SavedTable> = {}
  for (const name of ['values', 'down', 'up'] as const) {
    const table = (layer as Partial<Record<typeof name, ValueTable>>)[name]
    if (!table || !shared.includes(table)) continue
    const { slots, dim, dtype, mapped } = table
    if (mapped) {
      const hint = 'Save the model with a table in memory: table.load(mapped.weight).'
      fail('ERR_UNSUPPORTED', where, name, 'be in memory to be saved', 'a table in a file', hint)
    }
    tables[name] = { id: idOf(table), slots, dim, dtype }
  }
  return { memory: { kind, options: layer.config, tables } }
}

// The tables of the model that is being loaded: TensorFlow.js makes its layers synchronously.
const loading = new Map<string, ValueTable>()

function tableFrom(device: Device, { id, slots, dim, dtype }: SavedTable): ValueTable {
  const known = loading.get(id)
  if (known) return known
  if (loading.size === 0) queueMicrotask(() => loading.clear())
  const table = new ValueTable(device, { slots, dim, dtype } as ValueTableOptions)
  loading.set(id, table)
  return table
}

/** @throws ERR_VALUE for a configuration that {@link savedForm} has not written */
export function layerFrom(
  where: string,
  device: Device,
  config: Record<string, unknown>,
): TableLayer {
  const saved = config['memory'] as SavedForm | undefined
  if (!saved || (saved.kind !== 'memory' && saved.kind !== 'peer'))
    fail('ERR_VALUE', where, 'memory', 'be the configuration of a saved memory layer', saved)
  const { kind, options, tables } = saved
  const shared: Record<string, ValueTable> = {}
  for (const [name, table] of Object.entries(tables)) shared[name] = tableFrom(device, table)
  const given: object = { ...options, ...shared }
  return kind === 'memory'
    ? new MemoryLayer(device, given as MemoryLayerOptions)
    : new PeerLayer(device, given as PeerLayerOptions)
}

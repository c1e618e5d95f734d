// Which rows of which tables an optimizer may update.

import { types } from 'node:util'
import type { TensorHandle } from './binding.js'
import type { Device } from './device.js'
import { fail } from './errors.js'
import { type Indices, toIndexTensor } from './ops/indices.js'
import { type Tensor, tensorHandle } from './tensor.js'
import type { ValueTable } from './value-table.js'

/** The rows of each table, undefined for one that stays. The caller disposes what is temporary. */
export interface ChosenRows {
  readonly handles: (TensorHandle | undefined)[]
  readonly temporary: Tensor[]
}

/** @throws ERR_VALUE, ERR_INDEX_RANGE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH */
export function chosenRows(
  where: string,
  rows: Indices | ReadonlyMap<ValueTable, Indices>,
  tables: readonly ValueTable[],
  device: Device,
): ChosenRows {
  const byTable = rowsByTable(where, rows, tables)
  const temporary: Tensor[] = []
  try {
    const handles = tables.map((table) => {
      const given = byTable.get(table)
      if (given === undefined) return undefined
      const made = toIndexTensor(where, given, table.slots, device, 'rows')
      if (made.temporary) temporary.push(made.temporary)
      const handle = tensorHandle(where, 'rows', made.tensor, device)
      if (made.tensor.dtype !== 'int32')
        fail('ERR_DTYPE', where, 'rows', 'be int32', made.tensor.dtype)
      return handle
    })
    return { handles, temporary }
  } catch (error) {
    for (const tensor of temporary) tensor.dispose()
    throw error
  }
}

function rowsByTable(
  where: string,
  rows: unknown,
  tables: readonly ValueTable[],
): ReadonlyMap<ValueTable, Indices> {
  if (types.isMap(rows)) {
    for (const table of rows.keys())
      if (!tables.includes(table as ValueTable))
        fail('ERR_VALUE', where, 'rows', 'be by tables of this optimizer', table)
    return rows as ReadonlyMap<ValueTable, Indices>
  }
  const [table, ...others] = tables
  if (table === undefined || others.length > 0) {
    const found = `rows for an optimizer of ${tables.length} tables`
    const hint = 'Pass new Map([[layer.values, rows], …]).'
    fail('ERR_VALUE', where, 'rows', 'be a Map of rows by table', found, hint)
  }
  return new Map([[table, rows as Indices]])
}

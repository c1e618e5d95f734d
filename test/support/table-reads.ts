import { native } from '../../lib/binding.js'
import type { ValueTable } from '../../lib/index.js'
import { type Parameter, tableParameter } from '../../lib/parameter.js'

/** Queues one read of each of these rows, with a gradient that `seed` selects. */
export function queueRows(table: ValueTable, rows: readonly number[], seed: number): void {
  const { device, dim } = table
  const indices = device.tensor(Int32Array.from(rows), [rows.length, 1])
  const weights = device.tensor(new Float32Array(rows.length).fill(1), [rows.length, 1])
  const dy = device.normal([rows.length, dim], { seed })
  const read = [indices, weights, dy]
  const handles = read.map((t) => t.handle('test', 'read'))
  native.tablePush(table.handle, handles[0]!, handles[1]!, handles[2]!)
  for (const tensor of read) tensor.dispose()
}

/** What an optimizer of tables alone takes. */
export function parametersOf(...tables: ValueTable[]): Parameter[] {
  return tables.map((table, i) => tableParameter(`table${i}`, table))
}

// Patches from a table that is tracked, and to a table.

import { native, type TensorHandle } from './binding.js'
import { fail } from './errors.js'
import { pickRows, type RowBits, readBits, readRowBits, sameRow } from './row-bits.js'
import { failConflict, RowPatch, withoutEqual } from './row-patch.js'
import { formatShape, Tensor } from './tensor.js'
import { readUnwritten } from './unwritten.js'
import type { ValueTable } from './value-table.js'

/** What has changed in a table that is tracked, since it is. */
export async function diffOf(where: string, table: ValueTable): Promise<RowPatch> {
  const reads = await readUnwritten(
    table.weight.handle(where, 'this'),
    () => countRows(where, table),
    (count) => readJournal(where, table, count),
  )
  const [rows, before, after] = await reads
  const R = rows.length
  const order = [...rows.keys()].sort((a, b) => rows[a]! - rows[b]!)
  const { slots, dim, dtype } = table
  return new RowPatch(
    withoutEqual({
      slots,
      dim,
      dtype,
      rows: Int32Array.from(order, (i) => rows[i]!),
      before: pickRows(before, order, R),
      after: pickRows(after, order, R),
    }),
  )
}

async function countRows(where: string, { handle }: ValueTable): Promise<number> {
  const journal = native.tableJournalCount(handle)
  if (!journal) failUntracked(where)
  const read = native.tensorRead(journal.count, where)
  native.tensorDispose(journal.count)
  return new Int32Array(await read)[0]!
}

/** Enqueues the reads of a journal of `count` rows, and of the rows as they are now. */
function readJournal(
  where: string,
  { handle, device }: ValueTable,
  count: number,
): Promise<[Int32Array, RowBits, RowBits]> {
  const journal = native.tableJournal(handle)
  if (!journal) failUntracked(where)
  native.tensorDispose(journal.count)
  const none = { bits: new Uint8Array(0), exact: undefined }
  if (!journal.rows || !journal.bits) return Promise.resolve([new Int32Array(0), none, none])
  const first = (whole: TensorHandle) => {
    const tensor = new Tensor(device, whole)
    const part = tensor.rows(0, count)
    tensor.dispose()
    return part.handle(where, 'journal')
  }
  const rows = first(journal.rows)
  const exact = journal.exact && first(journal.exact)
  const before = readBits(where, { bits: first(journal.bits), exact })
  const after = readRowBits(where, handle, rows)
  const list = native.tensorRead(rows, where)
  native.tensorDispose(rows)
  return Promise.all([list.then((buffer) => new Int32Array(buffer)), before, after])
}

function failUntracked(where: string): never {
  fail('ERR_VALUE', where, 'this', 'be tracked', 'a table that is not', 'Call track() first.')
}

/** Writes a patch to a table whose rows have the bits of one of its sides; `back`: the old ones. */
export async function replaceRows(
  where: string,
  table: ValueTable,
  patch: RowPatch,
  back: boolean,
): Promise<void> {
  checkKind(where, table, patch)
  const R = patch.rows.length
  if (R === 0) return
  const weight = table.weight.handle(where, 'this')
  const rows = table.device.tensor(patch.rows)
  const rowsHandle = rows.handle(where, 'rows')
  try {
    await readUnwritten(
      weight,
      () => readRowBits(where, table.handle, rowsHandle),
      (present) => {
        const other = (i: number) =>
          !sameRow(present, patch.before, i, R) && !sameRow(present, patch.after, i, R)
        const conflicts = patch.rows.filter((_, i) => other(i))
        const wanted = `as the patch ${back ? 'left' : 'found'} them`
        if (conflicts.length > 0) failConflict(where, [...conflicts], wanted)
        const to = back ? patch.before : patch.after
        writeRowBits(table, rowsHandle, { ...to, exact: present.exact && to.exact }, R)
      },
    )
  } finally {
    rows.dispose()
  }
}

function writeRowBits(table: ValueTable, rows: TensorHandle, to: RowBits, R: number): void {
  const upload = (bytes: Uint8Array) => table.device.tensor(bytes, [R, bytes.length / R], 'uint8')
  const bits = upload(to.bits)
  const exact = to.exact && upload(to.exact)
  try {
    native.tableWriteRows(
      table.handle,
      rows,
      bits.handle('RowPatch', 'bits'),
      exact?.handle('RowPatch', 'exact'),
    )
  } finally {
    bits.dispose()
    exact?.dispose()
  }
}

function checkKind(where: string, table: ValueTable, patch: RowPatch): void {
  if (patch.dtype !== table.dtype)
    fail('ERR_DTYPE', where, 'patch', `be of a ${table.dtype} table`, patch.dtype)
  const [wanted, found] = [table, patch].map(({ slots, dim }) => formatShape([slots, dim]))
  if (found !== wanted) fail('ERR_SHAPE', where, 'patch', `be of a table ${wanted}`, found)
}

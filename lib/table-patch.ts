// Patches from a table that is tracked, and to a table.

import { native, type TensorHandle } from './binding.js'
import { fail } from './errors.js'
import { type RowBits, readBits, readRowBits, sameRow } from './row-bits.js'
import { type Changes, failConflict, patchOf, RowPatch, type Span } from './row-patch.js'
import { onAllRanks, onEveryRank, ownColumns, wholeRows } from './sharding/row-patch.js'
import { formatShape, Tensor } from './tensor.js'
import { readUnwritten } from './unwritten.js'
import type { ValueTable } from './value-table.js'

/** What has changed in a table that is tracked, since it is. */
export async function diffOf(where: string, table: ValueTable): Promise<RowPatch> {
  const found = await changesOf(where, table)
  const { before, after } = found
  const changed = spansOf(found).filter((s) => !sameRow(before, s.first, after, s.last))
  return new RowPatch(patchOf(table, changed, before, after))
}

async function changesOf(where: string, table: ValueTable): Promise<Changes> {
  const { shard } = table
  const own = readUnwritten(
    table.weight.handle(where, 'this'),
    () => countRows(where, table),
    (count) => readJournal(where, table, count),
  )
  if (!shard) return own
  const columns = await onEveryRank(where, shard.group, own)
  return wholeRows(shard, patchOf(table, spansOf(columns), columns.before, columns.after))
}

function spansOf({ rows }: Changes): Span[] {
  return Array.from(rows, (row, i) => ({ row, first: i, last: i }))
}

async function countRows(where: string, { handle }: ValueTable): Promise<number> {
  const journal = native.tableJournalCount(handle)
  if (!journal) failUntracked(where)
  const read = native.tensorRead(journal.count, where)
  native.tensorDispose(journal.count)
  return new Int32Array(await read)[0]!
}

/** Enqueues the reads of a journal of `count` rows, and of the rows as they are now. */
async function readJournal(
  where: string,
  { handle, device, dtype }: ValueTable,
  count: number,
): Promise<Changes> {
  const journal = native.tableJournal(handle)
  if (!journal) failUntracked(where)
  native.tensorDispose(journal.count)
  if (!journal.rows || !journal.bits) {
    const bytes = new Uint8Array(0)
    const none = { count: 0, bits: bytes, exact: dtype === 'float32' ? undefined : bytes }
    return { rows: new Int32Array(0), before: none, after: none }
  }
  const first = (whole: TensorHandle) => {
    const tensor = new Tensor(device, whole)
    const part = tensor.rows(0, count)
    tensor.dispose()
    return part.handle(where, 'journal')
  }
  const rows = first(journal.rows)
  const exact = journal.exact && first(journal.exact)
  const reads = [
    readBits(where, count, { bits: first(journal.bits), exact }),
    readRowBits(where, handle, rows, count),
  ] as const
  const list = native.tensorRead(rows, where)
  native.tensorDispose(rows)
  const [buffer, before, after] = await Promise.all([list, ...reads])
  return { rows: new Int32Array(buffer), before, after }
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
  const { shard } = table
  const sides = shard ? await ownColumns(shard, patch) : patch
  if (patch.rows.length === 0) return
  const weight = table.weight.handle(where, 'this')
  const rows = table.device.tensor(patch.rows)
  const read = () => readRowBits(where, table.handle, rows.handle(where, 'rows'), patch.rows.length)
  const refuse = (found: Uint8Array) => {
    const conflicts = patch.rows.filter((_, i) => found[i] === 0)
    const wanted = `as the patch ${back ? 'left' : 'found'} them`
    if (conflicts.length > 0) failConflict(where, [...conflicts], wanted)
  }
  let next: NewRows | undefined
  const stage = (present: RowBits) => {
    const exact = present.exact !== undefined
    next = new NewRows(table, rows, back ? sides.before : sides.after, exact)
    return sidesFound(present, sides)
  }
  try {
    if (!shard) {
      await readUnwritten(weight, read, (present) => {
        refuse(stage(present))
        next?.write()
      })
      return
    }
    const writes = native.tensorWrites(weight)
    const own = await onEveryRank(where, shard.group, read().then(stage))
    refuse(await onAllRanks(shard.group, own))
    if (native.tensorWrittenSince(weight, writes))
      fail('ERR_VALUE', where, 'this', 'not be written to while it is patched', 'a write')
    next?.write()
  } finally {
    next?.dispose()
    rows.dispose()
  }
}

/** Of each row the sides of a patch whose bits it has: 1 before, 2 after, or both. */
function sidesFound(present: RowBits, { before, after }: Pick<Changes, 'before' | 'after'>) {
  return Uint8Array.from({ length: present.count }, (_, i) => {
    return (sameRow(present, i, before, i) ? 1 : 0) | (sameRow(present, i, after, i) ? 2 : 0)
  })
}

/** What rows of a table are to be, on its device. */
class NewRows {
  readonly #table: ValueTable
  readonly #rows: Tensor
  readonly #bits: Tensor
  readonly #exact: Tensor | undefined

  constructor(table: ValueTable, rows: Tensor, to: RowBits, exact: boolean) {
    const upload = (bytes: Uint8Array) =>
      table.device.tensor(bytes, [to.count, bytes.length / to.count], 'uint8')
    this.#table = table
    this.#rows = rows
    this.#bits = upload(to.bits)
    this.#exact = exact && to.exact ? upload(to.exact) : undefined
  }

  write(): void {
    const [rows, bits] = [this.#rows, this.#bits].map((t) => t.handle('RowPatch', 'rows'))
    native.tableWriteRows(
      this.#table.handle,
      rows!,
      bits!,
      this.#exact?.handle('RowPatch', 'exact'),
    )
  }

  dispose(): void {
    this.#bits.dispose()
    this.#exact?.dispose()
  }
}

function checkKind(where: string, table: ValueTable, patch: RowPatch): void {
  if (patch.dtype !== table.dtype)
    fail('ERR_DTYPE', where, 'patch', `be of a ${table.dtype} table`, patch.dtype)
  const [wanted, found] = [table, patch].map(({ slots, dim }) => formatShape([slots, dim]))
  if (found !== wanted) fail('ERR_SHAPE', where, 'patch', `be of a table ${wanted}`, found)
}

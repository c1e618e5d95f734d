// Patches of tables whose columns are divided among ranks. They are of the whole table: each rank
// journals, compares and writes its own columns of the same rows.

import { createHash } from 'node:crypto'
import { MemoryLayersError } from '../errors.js'
import { joinColumns, pickColumns, type RowBits } from '../row-bits.js'
import type { Changes } from '../row-patch.js'
import type { World } from '../world.js'
import type { ColumnShard } from './columns.js'

/**
 * Awaits what each rank does by itself.
 * @throws the error of this rank, or ERR_DISTRIBUTED with the `rank` that has one
 */
export async function onEveryRank<T>(where: string, group: World, own: Promise<T>): Promise<T> {
  const settled = await own.then(
    (value) => ({ value }),
    (error) => ({ error }),
  )
  const failed = await group.exchange(['error' in settled ? 1 : 0])
  if ('error' in settled) throw settled.error
  const first = failed.findIndex(([error]) => error === 1)
  if (first < 0) return settled.value
  const rank = group.worldRank(first)
  const message = `${where}: rank ${rank} can't do its part: its own error says why.`
  throw new MemoryLayersError('ERR_DISTRIBUTED', message, rank)
}

/** Changes in this rank's columns, to those in all. @throws ERR_DISTRIBUTED where rows differ */
export async function wholeRows(
  { group, begins }: ColumnShard,
  { rows, before, after }: Changes,
): Promise<Changes> {
  await group.expectSame('the rows that were written', rows.join())
  const count = rows.length
  const elements = (rank: number) => count * (begins[rank + 1]! - begins[rank]!)
  const own = [before.bits, before.exact, after.bits, after.exact]
  const sizes = own.map((bytes) => (bytes && count > 0 ? bytes.length / elements(group.rank) : 0))
  // The first rank has the most columns: the others' bytes are filled up to its.
  const begin = (i: number) => elements(0) * sizes.slice(0, i).reduce((a, b) => a + b, 0)
  const sent = Buffer.alloc(begin(own.length))
  for (const [i, bytes] of own.entries()) if (bytes) sent.set(bytes, begin(i))
  const received = await group.exchangeBytes(sent)
  const part = (i: number, rank: number) =>
    received[rank]!.subarray(begin(i), begin(i) + elements(rank) * sizes[i]!)
  const side = (i: number) =>
    joinColumns(
      received.map((_, rank) => ({
        count,
        bits: part(i, rank),
        exact: own[i + 1] && part(i + 1, rank),
      })),
    )
  return { rows, before: side(0), after: side(2) }
}

/** This rank's columns of a patch, which must be the same on all. @throws ERR_DISTRIBUTED */
export async function ownColumns(
  { group, width, begin, end }: ColumnShard,
  patch: Changes,
): Promise<Pick<Changes, 'before' | 'after'>> {
  const hash = createHash('sha256').update(patch.rows)
  for (const { bits, exact } of [patch.before, patch.after]) {
    hash.update(bits)
    if (exact) hash.update(exact)
  }
  await group.expectSame('the patch', `${patch.rows.length} rows, SHA-256 ${hash.digest('hex')}`)
  const own = (side: RowBits) => pickColumns(side, width, begin, end)
  return { before: own(patch.before), after: own(patch.after) }
}

/** Of each number the bits that it has on every rank. */
export async function onAllRanks(group: World, flags: Uint8Array): Promise<Uint8Array> {
  const all = await group.exchangeBytes(flags)
  return flags.map((_, i) => all.reduce((bits, other) => bits & other[i]!, 255))
}

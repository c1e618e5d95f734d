// Which share of the reads of dy misses L2 while the touched rows of a table are updated, by a
// simulation: L2 holds the rows of dy that were read last. The table's own rows are not counted:
// they are evicted first.

/** Numbers in [0, 1), always the same. */
function generator(seed) {
  let s = seed
  return () => {
    s = (s + 0x6d2b79f5) | 0
    const t = Math.imul(s ^ (s >>> 15), 1 | s)
    const u = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((u ^ (u >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The tokens that read each touched row, ascending: `reads` slots of each token, uniform. */
function tokensOfRows(tokens, reads, slots) {
  const random = generator(1)
  const rows = new Map()
  for (let token = 0; token < tokens; token++)
    for (let i = 0; i < reads; i++) {
      const slot = Math.floor(random() * slots)
      const row = rows.get(slot)
      if (row) row.push(token)
      else rows.set(slot, [token])
    }
  return [...rows].sort(([a], [b]) => a - b).map(([, row]) => row)
}

/**
 * `blocks`: rows are visited by the blocks of tokens of their first and last entry, as
 * ops/row_visits.cuh does it; 1: in ascending order. `kept`: rows of dy in L2.
 */
export function missesOfDy({ tokens, reads, slots, blocks, kept }) {
  const block = (token) => Math.floor((token * blocks) / tokens)
  const keyOf = (row) => block(row[0]) * blocks + block(row[row.length - 1])
  const visits = tokensOfRows(tokens, reads, slots)
    .map((row) => ({ row, key: keyOf(row) }))
    .sort((a, b) => a.key - b.key)
  const held = new Set() // in the order of their last read
  let misses = 0
  for (const { row } of visits)
    for (const token of row) {
      if (!held.delete(token)) misses += 1
      held.add(token)
      if (held.size > kept) held.delete(held.values().next().value)
    }
  return misses / (tokens * reads)
}

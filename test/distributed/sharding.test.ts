// Divided tables: outputs of the whole's bits, gradients of the whole, and bytes by the formulas.

import { describe, expect, test } from 'vitest'
import { devices } from '../../lib/index.js'
import { missing, runRanks } from './run-ranks.js'

const kinds = devices()
  .filter(({ kind, available }) => available && kind !== 'cuda')
  .map(({ kind }) => kind)
const runs = kinds.flatMap((kind) =>
  (kind === 'cpu' ? [1, 2, 3, 4, 8] : [2, 3]).map((size) => [kind, size] as const),
)

describe.skipIf(missing)('layers on divided tables', () => {
  test.each(runs)('%s, %i ranks', async (kind, size) => {
    const ranks = await runRanks<Results>(size, 'sharded-layers.ts', { kind })
    expect(ranks.length).toBe(size)
    for (const { rank, counts, ...layers } of ranks) {
      const { peer, memory, plain } = layers
      for (const [name, result] of Object.entries({ memory, plain })) {
        expect(result.output, `${name}: output`).toBe(true)
        expect(result.infer, `${name}: infer`).toBe(true)
      }
      for (const [layer, result] of Object.entries({ peer, memory, plain }))
        for (const [name, difference] of Object.entries(result))
          if (typeof difference === 'number')
            expect(difference, `${layer}: ${name} of rank ${rank}`).toBeLessThan(1e-6)
      if (size === 1) continue
      expect(layers.blocked, 'a call while others are not there').toBeLessThan(500)
      if (rank !== size - 1) expect(layers.waited).toBeGreaterThan(900)
      expect(layers.other).toMatchObject({ code: 'ERR_VALUE' })
      expect(layers.none).toMatchObject({ code: 'ERR_VALUE' })
      expect(layers.untold).toMatchObject({ code: 'ERR_DISTRIBUTED' })
      expect(layers.equal).toBeNull()
      const widths = (width: number) => columnsOf(width, size)
      expect(memory.sent).toMatchObject(memoryBytes(counts, rank, 8, widths(37)))
      expect(peer.sent).toMatchObject(peerBytes(counts, rank, 8, widths(24)))
    }
  })
})

interface Results {
  rank: number
  counts: number[]
  peer: Record<string, unknown>
  memory: Record<string, unknown>
  plain: Record<string, unknown>
  /** Milliseconds. */
  blocked: number
  waited: number
  other: object
  none: object
  untold: object
  equal: object | null
}

/** Columns of each rank. */
function columnsOf(width: number, size: number): number[] {
  return Array.from(
    { length: size },
    (_, r) => Math.floor(width / size) + (r < width % size ? 1 : 0),
  )
}

const sum = (numbers: number[]) => numbers.reduce((a, b) => a + b, 0)

/** What a rank sends to others in two forwards of a memory layer: kernels.md 6, uneven. */
function memoryBytes(counts: number[], rank: number, entries: number, widths: number[]) {
  const others = counts.length - 1
  const own = counts[rank]!
  return {
    exchange: 0,
    allGather: 2 * 8 * others * own * entries,
    allToAll: 2 * 4 * (sum(counts) - own) * widths[rank]!,
  }
}

/** Of a PEER layer in a forward and a backward. */
function peerBytes(counts: number[], rank: number, entries: number, widths: number[]) {
  const others = counts.length - 1
  const own = counts[rank]!
  const tokens = sum(counts) - own
  const toOwners = 4 * tokens * widths[rank]!
  const toColumns = 4 * own * (sum(widths) - widths[rank]!)
  return {
    exchange: 0,
    allGather: 3 * 4 * others * own * entries, // indices, weights, gradients of expert sums
    allToAll: 2 * (toOwners + toColumns),
    reduceScatter: 2 * 4 * tokens * entries,
  }
}

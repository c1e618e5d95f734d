// Enough half-keys for int8 screening: upper bounds of the scores, where a machine has the
// instructions. What it leaves out must never be among the k best.

import { expect, test } from 'vitest'
import * as reference from '../reference/product-key-lookup.js'
import { halfScores } from '../reference/product-key-scores.js'
import { onEveryDevice } from '../support/devices.js'
import { expectExactly, lookupOf } from '../support/lookup.js'
import { integers, uniform } from '../support/random.js'
import { rowsOf, stack } from '../support/rows.js'

const s = { T: 60, H: 2, n: 1027, d: 37, k: 16 }

/** Element i of row j, of the queries or of the keys. */
type Element = (j: number, i: number) => number

const noise = uniform(s.H * 2 * s.n * s.d, 31)
const plain: Element = (j, i) => noise[(j * s.d + i) % noise.length]!
const heavyTailed: Element = (j, i) => Math.tan(1.5 * plain(j, i))

const matrix = (rows: number, element: Element) =>
  Float32Array.from({ length: rows * s.d }, (_, e) => element(Math.floor(e / s.d), e % s.d))
const queryOf = (element: Element) => matrix(s.T * s.H * 2, element)
const keysOf = (element: Element) => matrix(s.H * 2 * s.n, element)

const kinds: Record<string, { query?: Element; keys: Element }> = {
  uniform: { keys: plain },
  'norms of many magnitudes': { keys: (j, i) => plain(j, i) * 10 ** (4 * plain(j, 0)) },
  'heavy tails': { query: heavyTailed, keys: heavyTailed },
  'one large dimension': {
    query: (t, i) => plain(t, i) * (i === 5 ? 30 : 1),
    keys: (j, i) => plain(j, i) * (i === 5 ? 30 : 1),
  },
  'nearly equal': { keys: (j, i) => plain(0, i) + 1e-4 * plain(j, i) },
  'few distinct': { keys: (j, i) => plain(j % 7, i) },
  'zero rows': {
    query: (t, i) => (t % 3 ? plain(t, i) : 0),
    keys: (j, i) => (j % 5 ? plain(j, i) : 0),
  },
  'all negative scores': {
    query: (t, i) => 1 + plain(t, i) / 2,
    keys: (j, i) => -1 - plain(j, i) / 2,
  },
  'some queries too large to quantise': {
    query: (t, i) => plain(t, i) * (t % 4 ? 1 : 1e17),
    keys: plain,
  },
  'some queries too small to quantise': {
    query: (t, i) => plain(t, i) * (t % 4 ? 1 : 1e-20),
    keys: plain,
  },
  'some keys too large to quantise': { keys: (j, i) => plain(j, i) * (j % 100 ? 1 : 1e18) },
}

onEveryDevice((device) => {
  test.each(Object.entries(kinds))(
    '%s: chosen scores are exact, and no better slot is left out',
    async (_, { query = plain, keys }) => {
      const [q, k] = [queryOf(query), keysOf(keys)]

      const found = await lookupOf(device, s, q, k)

      const exact = halfScores(q, k, s)
      const best = reference.lookup(exact, s, 'none').scores
      // The rounding error of a score is proportional to the sum of the magnitudes of its terms.
      const magnitudes = halfScores(q.map(Math.abs), k.map(Math.abs), s)
      for (const [th, slots] of rowsOf(found.indices, s.k).entries()) {
        expect(new Set(slots).size).toBe(s.k)
        for (const [rank, slot] of slots.entries()) {
          const score = found.scores[th * s.k + rank]!
          const error = 3e-6 * reference.slotScore(magnitudes, s.n, th, slot) + 1e-30
          const wanted = reference.slotScore(exact, s.n, th, slot)
          expect(Math.abs(score - wanted)).toBeLessThanOrEqual(error)
          expect(score).toBeGreaterThanOrEqual(best[th * s.k + rank]! - 2 * error)
        }
      }
    },
  )

  test.each([1, 2, 3])('exact in every tie: small integers, seed %i', async (seed) => {
    const shape = { T: 40, H: 1, n: 1030, d: 6, k: 32 }
    const q = Float32Array.from(integers(shape.T * 2 * shape.d, -9, 10, seed))
    const k = Float32Array.from(integers(2 * shape.n * shape.d, -9, 10, seed + 10))
    const found = await lookupOf(device, shape, q, k)
    expectExactly(found, reference.lookup(halfScores(q, k, shape), shape, 'softmax'))
  })

  test('the bits of a token do not depend on the other tokens of the batch', async () => {
    const k = keysOf(plain)
    const tokens = rowsOf(queryOf(plain), s.H * 2 * s.d)
    const zeros = new Float32Array(s.H * 2 * s.d) // all its scores are equal
    const between = tokens.flatMap((token) => [token, zeros])

    const alone = await lookupOf(device, s, stack(tokens), k)
    const mixed = await lookupOf(device, { ...s, T: 2 * s.T }, stack(between), k)

    for (const name of ['scores', 'indices', 'weights'] as const) {
      const wanted = rowsOf(alone[name], s.H * s.k)
      const got = rowsOf(mixed[name], s.H * s.k)
      for (const [t, row] of wanted.entries())
        expect(got[2 * t], `${name} of token ${t}`).toEqual(row)
    }
  })

  test('NaN in a query stays with its token and head', async () => {
    const [q, k] = [queryOf(plain), keysOf(plain)]
    const clean = rowsOf((await lookupOf(device, s, q, k)).weights, s.k)
    const [token, head] = [7, 1]
    q[(token * s.H + head) * 2 * s.d + 3] = Number.NaN
    const { weights } = await lookupOf(device, s, q, k)
    for (const [th, row] of rowsOf(weights, s.k).entries()) {
      if (th === token * s.H + head) expect(Array.from(row).every(Number.isNaN)).toBe(true)
      else expect(row).toEqual(clean[th])
    }
  })

  test('NaN in a key stays with its head', async () => {
    const [q, k] = [queryOf(plain), keysOf(plain)]
    k[3] = Number.NaN // head 0
    const { weights } = await lookupOf(device, s, q, k)
    for (const [th, row] of rowsOf(weights, s.k).entries()) {
      const wanted = th % s.H === 0 ? Number.isNaN : Number.isFinite
      expect(Array.from(row).every(wanted), `token and head ${th}`).toBe(true)
    }
  })
})

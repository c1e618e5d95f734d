// Product-key lookup where the order decides: ties, masks, infinities and NaN.

import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import * as reference from '../reference/product-key-lookup.js'
import { halfScores } from '../reference/product-key-scores.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { expectExactly, lookupInputs, lookupOf } from '../support/lookup.js'
import { integers } from '../support/random.js'
import { orders, rowsOf, stack } from '../support/rows.js'

onEveryDevice((device) => {
  test.each(Object.entries(orders))('exact for half scores: %s', async (_, value) => {
    const n = 300
    // With d = 1 and a query of ones the half scores are the keys themselves.
    const query = new Float32Array(4).fill(1)
    const first = Array.from({ length: n }, (_, i) => value(i))
    const second = Array.from({ length: n }, (_, i) => value((i * 77 + 5) % n))
    const keys = stack([first, second])
    const exact = Float64Array.from([...keys, ...keys])
    for (const k of [1, 2, 8, 31, 32, 33, 64, 128, 150, n]) {
      const s = { T: 2, H: 1, n, d: 1, k }
      const found = await lookupOf(device, s, query, keys)
      const wanted = reference.lookup(exact, s, 'softmax', undefined, Math.fround)
      expectExactly(found, wanted, `k ${k}`)
      expectClose('weights', found.weights, wanted.weights, 1e-5)
    }
  })

  test('exact in every tie: small integers, whose sums have no rounding', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.record({
          T: fc.integer({ min: 1, max: 6 }),
          H: fc.integer({ min: 1, max: 2 }),
          n: fc.integer({ min: 1, max: 70 }),
          k: fc.integer({ min: 1, max: 40 }),
        }),
        fc.nat(1000),
        async (shape, seed) => {
          const s = { ...shape, d: 2 }
          const query = Float32Array.from(integers(s.T * s.H * 4, -1, 2, seed))
          const keys = Float32Array.from(integers(s.H * 2 * s.n * 2, -2, 3, seed + 1))
          const found = await lookupOf(device, s, query, keys)
          expectExactly(found, reference.lookup(halfScores(query, keys, s), s, 'softmax'))
        },
      ),
      { numRuns: 80, seed: 3 },
    )
  })

  test('all scores equal: the first slots, by rank in the halves', async () => {
    const s = { T: 2, H: 1, n: 9, d: 4, k: 5 }
    const found = await lookupOf(device, s, new Float32Array(16), new Float32Array(72))
    expect(Array.from(found.indices)).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    expectClose('weights', found.weights, new Float32Array(10).fill(0.2), 1e-6)
  })

  test('a masked key is never selected; fewer selectable than k leave padding', async () => {
    const s = { T: 5, H: 2, n: 300, d: 4, k: 8 }
    const { query, keys } = lookupInputs(device, s, 9)
    const exact = halfScores(query.data, keys.data, s)
    for (const selectable of [300, 100, 9, 3, 1, 0]) {
      const mask = Uint8Array.from({ length: s.H * 2 * s.n }, (_, i) =>
        (i * 37) % s.n < selectable ? 1 : 0,
      )
      const found = await lookupOf(device, s, query.data, keys.data, mask)
      const wanted = reference.lookup(exact, s, 'softmax', mask)
      expect(Array.from(found.indices), `${selectable} selectable`).toEqual(
        Array.from(wanted.indices),
      )
      expectClose('weights', found.weights, wanted.weights, 1e-5)
    }
  })

  test('+Infinity wins and gives no NaN; -Infinity is never selected', async () => {
    const s = { T: 5, H: 2, n: 300, d: 1, k: 8 }
    const query = new Float32Array(s.T * s.H * 2).fill(1)
    const keys = lookupInputs(device, s, 10).keys.data
    for (let half = 0; half < s.H * 2; half++) {
      keys[half * s.n + 7] = Infinity
      keys[half * s.n + 8] = -Infinity
    }
    const found = await lookupOf(device, s, query, keys)
    const exact = halfScores(query, keys, s)
    const wanted = reference.lookup(exact, s, 'softmax', undefined, Math.fround)
    expect(Array.from(found.indices)).toEqual(Array.from(wanted.indices))
    expect(found.indices[0]).toBe(7 * s.n + 7)
    expect(found.weights.every(Number.isFinite)).toBe(true)
  })

  describe('NaN', () => {
    const s = { T: 5, H: 2, n: 300, d: 4, k: 8 }
    const { query, keys } = lookupInputs(device, s, 11)
    const inRange = (index: number) => index >= 0 && index < s.n * s.n

    test('in a query: NaN weights for its token and head, and indices in range', async () => {
      const [token, head] = [2, 1]
      const q = query.data.slice()
      const secondHalf = (token * s.H + head) * 2 + 1
      q[secondHalf * s.d] = Number.NaN

      const clean = await lookupOf(device, s, query.data, keys.data)
      const found = await lookupOf(device, s, q, keys.data)

      const cleanWeights = rowsOf(clean.weights, s.k)
      for (const [th, weights] of rowsOf(found.weights, s.k).entries()) {
        if (th === token * s.H + head) expect(Array.from(weights).every(Number.isNaN)).toBe(true)
        else expect(weights).toEqual(cleanWeights[th])
      }
      expect(Array.from(found.indices).every(inRange)).toBe(true)
    })

    test('in a key: NaN weights for its head, in every token', async () => {
      const k = keys.data.slice()
      k[3] = Number.NaN // head 0
      const found = await lookupOf(device, s, query.data, k)
      for (const [th, weights] of rowsOf(found.weights, s.k).entries()) {
        const wanted = th % s.H === 0 ? Number.isNaN : Number.isFinite
        expect(Array.from(weights).every(wanted), `token and head ${th}`).toBe(true)
      }
    })

    test('everywhere: NaN weights, and as many indices in range as k', async () => {
      const one = { T: 1, H: 1, n: 300, d: 1, k: 40 }
      const nan = new Float32Array(2 * one.n).fill(Number.NaN)
      const found = await lookupOf(device, one, Float32Array.of(1, 1), nan)
      expect(Array.from(found.weights).every(Number.isNaN)).toBe(true)
      expect(new Set(found.indices).size).toBe(one.k)
      expect(Array.from(found.indices).every(inRange)).toBe(true)
    })

    test('in a masked key: no effect', async () => {
      const one = { T: 1, H: 1, n: 300, d: 1, k: 8 }
      const k = new Float32Array(2 * one.n).fill(1)
      k[7] = Number.NaN
      const mask = new Uint8Array(2 * one.n).fill(1)
      mask[7] = 0
      const found = await lookupOf(device, one, Float32Array.of(1, 1), k, mask)
      expectClose('weights', found.weights, new Float32Array(8).fill(1 / 8), 1e-6)
    })
  })
})

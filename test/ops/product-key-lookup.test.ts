import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/product-key-lookup.js'
import { halfScores } from '../reference/product-key-scores.js'
import { topK } from '../reference/topk.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import {
  dataOf,
  expectIndices,
  gates,
  lookupInputs,
  lookupOf,
  lookupShapes,
} from '../support/lookup.js'
import { randomTensorOf, uniform } from '../support/random.js'
import { rowsOf, stack } from '../support/rows.js'

onEveryDevice((device) => {
  test.each(lookupShapes.flatMap(([name, s]) => gates.map((g) => [name, g, s] as const)))(
    '%s, %s equals the reference',
    async (_, gate, s) => {
      const { query, keys } = lookupInputs(device, s, 2)
      const found = await dataOf(
        ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k, gate }),
      )
      const exact = halfScores(query.data, keys.data, s)
      const wanted = reference.lookup(exact, s, gate)
      expectClose('scores', found.scores, wanted.scores, 2e-6, magnitude(exact))
      expectClose('weights', found.weights, wanted.weights, 1e-5)
      expectIndices(found.indices, wanted, s.k)
    },
  )

  describe.each<DType>(['float16', 'bfloat16'])('%s query and keys', (dtype) => {
    test.each(lookupShapes)('%s equals the reference', async (_, s) => {
      const query = await randomTensorOf(device, [s.T, s.H, 2, s.d], 1, dtype)
      const keys = await randomTensorOf(device, [s.H, 2, s.n, s.d], 2, dtype)
      const found = await dataOf(ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k }))
      const exact = halfScores(query.data, keys.data, s)
      const wanted = reference.lookup(exact, s, 'softmax')
      // tensor cores may cut off each of the d / 16 sums of a half score
      expectClose('scores', found.scores, wanted.scores, 4e-6, magnitude(exact))
      expectClose('weights', found.weights, wanted.weights, 1e-5)
      expectIndices(found.indices, wanted, s.k)
    })

    test('one dtype for both', async () => {
      const query = device.zeros([1, 1, 2, 4], dtype)
      const keys = device.zeros([1, 2, 3, 4])
      await errorOf('ERR_DTYPE', () => ops.productKeyLookup(query, keys, { knn: 1 }))
    })
  })

  describe('properties', () => {
    test('permuted keys give permuted slots', async () => {
      const s = { T: 4, H: 1, n: 20, d: 6, k: 6 }
      const { query, keys } = lookupInputs(device, s, 6)
      const order = topK(uniform(s.n, 9), s.n)
      const rows = rowsOf(keys.data, s.d)
      const [first, second] = [rows.slice(0, s.n), rows.slice(s.n)]
      const permuted = stack([...order.map((j) => first[j]!), ...order.map((j) => second[j]!)])

      const original = await lookupOf(device, s, query.data, keys.data)
      const found = await lookupOf(device, s, query.data, permuted)

      const slotBefore = (slot: number) => order[Math.floor(slot / s.n)]! * s.n + order[slot % s.n]!
      expect(Array.from(found.indices, slotBefore)).toEqual(Array.from(original.indices))
      expect(found.weights).toEqual(original.weights)
    })

    test('a scaled query scales the scores', async () => {
      const s = { T: 6, H: 2, n: 40, d: 8, k: 6 }
      const { query, keys } = lookupInputs(device, s, 7)
      const original = await lookupOf(device, s, query.data, keys.data)
      const scaled = await lookupOf(
        device,
        s,
        query.data.map((v) => v * 4),
        keys.data,
      )
      expect(scaled.indices).toEqual(original.indices)
      expect(Array.from(scaled.scores)).toEqual(Array.from(original.scores, (v) => v * 4))
    })

    test('k = n*n selects every slot once', async () => {
      const s = { T: 2, H: 1, n: 4, d: 3, k: 16 }
      const { query, keys } = lookupInputs(device, s, 8)
      const { indices } = await lookupOf(device, s, query.data, keys.data)
      const every = Array.from({ length: 16 }, (_, slot) => slot)
      for (const slots of rowsOf(Array.from(indices), s.k))
        expect(slots.sort((a, b) => a - b)).toEqual(every)
    })
  })

  test('no tokens', async () => {
    const found = ops.productKeyLookup(device.zeros([0, 2, 2, 3]), device.zeros([2, 2, 5, 3]), {
      knn: 2,
    })
    expect((await found.indices.data()).length).toBe(0)
  })

  test('shapes, dtypes and options are checked', async () => {
    const query = device.zeros([4, 2, 2, 3])
    const keys = device.zeros([2, 2, 5, 3])
    const lookup = (q: typeof query, options: object = {}) =>
      ops.productKeyLookup(q, keys, { knn: 2, ...options })
    await errorOf('ERR_SHAPE', () => lookup(device.zeros([4, 2, 6])))
    await errorOf('ERR_SHAPE', () => lookup(device.zeros([4, 1, 2, 3])))
    await errorOf('ERR_SHAPE', () => lookup(device.zeros([4, 2, 2, 4])))
    await errorOf('ERR_SHAPE', () => lookup(query, { mask: device.zeros([2, 5], 'uint8') }))
    await errorOf('ERR_DTYPE', () => lookup(query, { mask: device.zeros([2, 2, 5]) }))
    await errorOf('ERR_VALUE', () => lookup(query, { knn: 0 }))
    await errorOf('ERR_VALUE', () => lookup(query, { gate: 'soft' }))
    expect(await errorOf('ERR_OPTION', () => lookup(query, { gates: 'relu' }))).toContain('"gate"')
  })
})

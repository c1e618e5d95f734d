import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/product-key-lookup.js'
import { halfScores } from '../reference/product-key-scores.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { dataOf, gates, lookupInputs, lookupShapes } from '../support/lookup.js'
import { randomTensor, randomTensorOf } from '../support/random.js'

onEveryDevice((device) => {
  describe.each<DType>(['float16', 'bfloat16'])('%s query and keys', (dtype) => {
    test.each(lookupShapes)('%s equals the reference', async (_, s) => {
      const query = await randomTensorOf(device, [s.T, s.H, 2, s.d], 1, dtype)
      const keys = await randomTensorOf(device, [s.H, 2, s.n, s.d], 2, dtype)
      const dWeights = randomTensor(device, [s.T, s.H, s.k], 5)
      const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k })

      const inputs = { query: query.tensor, keys: keys.tensor }
      const { dQuery, dKeys } = ops.productKeyLookupBackward(found, dWeights.tensor, inputs)

      const saved = await dataOf(found)
      const [q, k] = [query.data, keys.data]
      const wanted = reference.lookupBackward(q, k, s, 'softmax', saved, dWeights.data)
      expect([dQuery.dtype, dKeys.dtype]).toEqual(['float32', 'float32'])
      expectClose('dQuery', await dQuery.data(), wanted.dQuery, 1e-5)
      expectClose('dKeys', await dKeys.data(), wanted.dKeys, 1e-5)
    })
  })

  const shapes: reference.LookupShape[] = [
    { T: 3, H: 2, n: 5, d: 3, k: 5 },
    { T: 7, H: 3, n: 50, d: 10, k: 5 },
    { T: 4, H: 2, n: 6, d: 4, k: 3 },
    { T: 4, H: 2, n: 3, d: 8, k: 7 },
    { T: 70, H: 2, n: 40, d: 70, k: 8 },
  ]
  const cases = (some: typeof shapes) => gates.flatMap((gate) => some.map((s) => ({ gate, ...s })))
  const lookup = (s: (typeof shapes)[0], gate: (typeof gates)[0]) => {
    const { query, keys } = lookupInputs(device, s, 4)
    const dWeights = randomTensor(device, [s.T, s.H, s.k], 5)
    const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k, gate })
    const { dQuery, dKeys } = ops.productKeyLookupBackward(found, dWeights.tensor, {
      query: query.tensor,
      keys: keys.tensor,
    })
    return { query: query.data, keys: keys.data, dWeights: dWeights.data, found, dQuery, dKeys }
  }

  test.each(cases(shapes))(
    'gate $gate, T $T H $H n $n d $d k $k equals the reference',
    async ({ gate, ...s }) => {
      const { query, keys, dWeights, found, dQuery, dKeys } = lookup(s, gate)
      const saved = await dataOf(found)
      const wanted = reference.lookupBackward(query, keys, s, gate, saved, dWeights)
      expectClose('dQuery', await dQuery.data(), wanted.dQuery, 1e-5)
      expectClose('dKeys', await dKeys.data(), wanted.dKeys, 1e-5)
    },
  )

  test.each(cases(shapes.filter((s) => s.T < 10)))(
    'gate $gate, T $T H $H n $n d $d k $k equals finite differences',
    async ({ gate, ...s }) => {
      const { query, keys, dWeights, found, dQuery, dKeys } = lookup(s, gate)
      const { indices } = await dataOf(found)
      // The selection is constant: the weights of the chosen slots as a function of query and keys.
      const loss = (q: ArrayLike<number>, k: ArrayLike<number>) => {
        const scores = halfScores(q, k, s)
        let sum = 0
        for (let th = 0; th < s.T * s.H; th++) {
          const chosen = Array.from({ length: s.k }, (_, rank) => th * s.k + rank).filter(
            (entry) => indices[entry]! >= 0,
          )
          const weights = reference.gateOf(
            gate,
            chosen.map((entry) => reference.slotScore(scores, s.n, th, indices[entry]!)),
          )
          sum += dot(
            weights,
            chosen.map((entry) => dWeights[entry]!),
          )
        }
        return sum
      }
      expectGradient('dQuery', await dQuery.data(), (q) => loss(q, keys), query, 1e-4)
      expectGradient('dKeys', await dKeys.data(), (k) => loss(query, k), keys, 1e-4)
    },
  )

  test('the same bits in every run, with keys that every token selects', async () => {
    const s = { T: 400, H: 2, n: 50, d: 12, k: 6 }
    const query = randomTensor(device, [s.T, s.H, 2, s.d], 1)
    const keys = randomTensor(device, [s.H, 2, s.n, s.d], 2)
    const dWeights = randomTensor(device, [s.T, s.H, s.k], 3)
    // In the first half of each head only three keys can be selected.
    const mask = new Uint8Array(s.H * 2 * s.n).fill(1)
    for (let h = 0; h < s.H; h++) mask.fill(0, 2 * h * s.n + 3, (2 * h + 1) * s.n)
    const inputs = { query: query.tensor, keys: keys.tensor }
    const found = ops.productKeyLookup(query.tensor, keys.tensor, {
      knn: s.k,
      mask: device.tensor(mask, [s.H, 2, s.n]),
    })

    const run = () => ops.productKeyLookupBackward(found, dWeights.tensor, inputs)
    const [first, second] = [run(), run()]

    const saved = await dataOf(found)
    const [q, k] = [query.data, keys.data]
    const wanted = reference.lookupBackward(q, k, s, 'softmax', saved, dWeights.data)
    expectClose('dQuery', await first.dQuery.data(), wanted.dQuery, 1e-5)
    expectClose('dKeys', await first.dKeys.data(), wanted.dKeys, 1e-5)
    expect(await second.dQuery.data()).toEqual(await first.dQuery.data())
    expect(await second.dKeys.data()).toEqual(await first.dKeys.data())
  })

  test('shapes and indices are checked', async () => {
    const query = device.zeros([4, 2, 2, 3])
    const keys = device.zeros([2, 2, 5, 3])
    const found = ops.productKeyLookup(query, keys, { knn: 2 })
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookupBackward(found, device.zeros([4, 2, 3]), { query, keys }),
    )
    const outside = device.tensor(new Int32Array(16).fill(25), [4, 2, 2])
    const { dKeys } = ops.productKeyLookupBackward(
      { ...found, indices: outside },
      device.zeros([4, 2, 2]),
      { query, keys },
    )
    const message = await errorOf('ERR_INDEX_RANGE', () => dKeys.data())
    expect(message).toContain('is 25')
    expect(message).toContain('[0, 25)')
  })
})

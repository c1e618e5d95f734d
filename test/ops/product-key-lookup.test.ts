import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DType, type Gate, ops } from '../../lib/index.js'
import * as reference from '../reference/product-key-lookup.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { expectSlope, inner } from '../support/differences.js'
import { errorOf } from '../support/errors.js'
import { draw, drawRounded, integers, uniform } from '../support/random.js'

const gates: Gate[] = ['softmax', 'relu', 'sigmoid', 'none']

onEveryDevice((device) => {
  const shapes: reference.LookupShape[] = [
    { T: 1, H: 1, n: 1, d: 1, k: 1 },
    { T: 3, H: 2, n: 5, d: 3, k: 5 },
    { T: 7, H: 3, n: 50, d: 10, k: 5 },
    { T: 5, H: 1, n: 33, d: 24, k: 32 },
    { T: 60, H: 2, n: 100, d: 17, k: 8 },
    { T: 50, H: 4, n: 128, d: 32, k: 32 },
    { T: 2, H: 4, n: 300, d: 64, k: 16 },
    { T: 100, H: 1, n: 600, d: 128, k: 64 },
    { T: 6, H: 1, n: 200, d: 500, k: 100 },
    { T: 4, H: 2, n: 3, d: 8, k: 7 },
    { T: 9, H: 2, n: 2, d: 8, k: 7 },
    { T: 2, H: 1, n: 1, d: 5, k: 3 },
    { T: 65, H: 1, n: 129, d: 16, k: 1 },
    { T: 33, H: 2, n: 136, d: 40, k: 33 },
    { T: 3, H: 1, n: 400, d: 16, k: 200 },
    { T: 2, H: 1, n: 40, d: 3, k: 300 },
  ]
  const name = (s: reference.LookupShape) => `T ${s.T} H ${s.H} n ${s.n} d ${s.d} k ${s.k}`
  const draws = ({ T, H, n, d }: reference.LookupShape, seed: number) => ({
    query: draw(device, [T, H, 2, d], seed),
    keys: draw(device, [H, 2, n, d], seed + 1),
  })

  test.each(shapes.map((s) => [name(s), s] as const))('scores, %s', async (_, s) => {
    const { query, keys } = draws(s, 1)
    expectClose(
      'scores',
      await ops.productKeyScores(query.tensor, keys.tensor).data(),
      reference.halfScores(query.data, keys.data, s),
      2e-6,
    )
  })

  test.each(shapes.flatMap((s) => gates.map((g) => [`${name(s)}, ${g}`, s, g] as const)))(
    'lookup, %s',
    async (_, s, gate) => {
      const { query, keys } = draws(s, 2)
      const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k, gate })
      const exact = reference.halfScores(query.data, keys.data, s)
      const wanted = reference.lookup(exact, s, gate)
      const [scores, indices, weights] = [
        await found.scores.data(),
        await found.indices.data(),
        await found.weights.data(),
      ]
      expectClose('scores', scores, wanted.scores, 2e-6, magnitude(exact))
      expectClose('weights', weights, wanted.weights, 1e-5)
      // Indices are the reference's where its scores are clearly apart.
      for (const [i, w] of wanted.indices.entries()) {
        const r = i % s.k
        const apart = (j: number) => Math.abs(wanted.scores[i]! - wanted.scores[j]!) > 1e-5
        if ((r === 0 || apart(i - 1)) && r !== s.k - 1 && apart(i + 1)) expect(indices[i]).toBe(w)
        else if (w === -1) expect(indices[i]).toBe(-1)
      }
    },
  )

  describe.each<DType>(['float16', 'bfloat16'])('%s query and keys', (dtype) => {
    test.each(shapes.map((s) => [name(s), s] as const))('%s', async (_, s) => {
      const query = await drawRounded(device, [s.T, s.H, 2, s.d], 1, dtype)
      const keys = await drawRounded(device, [s.H, 2, s.n, s.d], 2, dtype)
      const exact = reference.halfScores(query.data, keys.data, s)
      const scores = ops.productKeyScores(query.tensor, keys.tensor)
      expect(scores.dtype).toBe('float32')
      expectClose('scores', await scores.data(), exact, 2e-6)
      const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k })
      const wanted = reference.lookup(exact, s, 'softmax')
      expectClose('lookup scores', await found.scores.data(), wanted.scores, 2e-6, magnitude(exact))
      expectClose('weights', await found.weights.data(), wanted.weights, 1e-5)
      const dw = draw(device, [s.T, s.H, s.k], 5)
      const { dQuery, dKeys } = ops.productKeyLookupBackward(found, dw.tensor, {
        query: query.tensor,
        keys: keys.tensor,
      })
      const saved = {
        indices: await found.indices.data(),
        scores: await found.scores.data(),
        weights: await found.weights.data(),
      }
      const gradients = reference.lookupBackward(
        query.data,
        keys.data,
        s,
        'softmax',
        saved,
        dw.data,
      )
      expect([dQuery.dtype, dKeys.dtype]).toEqual(['float32', 'float32'])
      expectClose('dQuery', await dQuery.data(), gradients.dQuery, 1e-5)
      expectClose('dKeys', await dKeys.data(), gradients.dKeys, 1e-5)
    })

    test('one dtype for both', async () => {
      const query = device.zeros([1, 1, 2, 4], dtype)
      await errorOf('ERR_DTYPE', () =>
        ops.productKeyLookup(query, device.zeros([1, 2, 3, 4]), { knn: 1 }),
      )
      await errorOf('ERR_DTYPE', () => ops.productKeyScores(query, device.zeros([1, 2, 3, 4])))
    })
  })

  // d = 1 and a query of ones: the half scores are the keys themselves.
  describe('exact, whatever the half scores are', () => {
    const n = 300
    const rows: Record<string, (i: number) => number> = {
      ascending: (i) => i,
      descending: (i) => -i,
      equal: () => 1.5,
      'two values': (i) => i % 2,
      zeros: (i) => (i % 2 ? 0 : -0),
      denormals: (i) => ((i * 7) % 11) * 1e-45,
      'huge and tiny': (i) => (i % 5 ? 1e-38 : 3e38) * (i % 2 ? 1 : -1),
      infinities: (i) => (i % 50 === 0 ? Infinity : i % 3 ? -Infinity : i),
      'all -Infinity but one': (i) => (i === 200 ? 1 : -Infinity),
      'all -Infinity': () => -Infinity,
      'all +Infinity': () => Infinity,
    }
    test.each(Object.entries(rows))('%s', async (_, f) => {
      const one = Float32Array.from({ length: n }, (_, i) => f(i))
      const other = Float32Array.from({ length: n }, (_, i) => f((i * 77 + 5) % n))
      const keys = Float32Array.from([...one, ...other])
      for (const k of [1, 2, 8, 31, 32, 33, 64, 128, 150, n]) {
        const s = { T: 2, H: 1, n, d: 1, k }
        const found = ops.productKeyLookup(
          device.tensor([1, 1, 1, 1], [2, 1, 2, 1]),
          device.tensor(keys, [1, 2, n, 1]),
          { knn: k },
        )
        const wanted = reference.lookup(
          Float64Array.from([...keys, ...keys]),
          s,
          'softmax',
          undefined,
          Math.fround,
        )
        expect(Array.from(await found.indices.data()), `k ${k}`).toEqual(Array.from(wanted.indices))
        expect(Array.from(await found.scores.data(), (v) => v + 0)).toEqual(
          Array.from(wanted.scores, (v) => v + 0),
        )
        expectClose('weights', await found.weights.data(), wanted.weights, 1e-5)
      }
    })

    test('NaN everywhere: NaN weights, valid indices', async () => {
      const nan = device.tensor(new Float32Array(2 * n).fill(Number.NaN), [1, 2, n, 1])
      const found = ops.productKeyLookup(device.tensor([1, 1], [1, 1, 2, 1]), nan, { knn: 40 })
      expect((await found.weights.data()).every(Number.isNaN)).toBe(true)
      expect(new Set(await found.indices.data()).size).toBe(40)
      expect((await found.indices.data()).every((i) => i >= 0 && i < n * n)).toBe(true)
    })

    test('a masked NaN is as if it were not there', async () => {
      const keys = new Float32Array(2 * n).fill(1)
      keys[7] = Number.NaN
      const mask = Uint8Array.from({ length: 2 * n }, (_, i) => (i === 7 ? 0 : 1))
      const found = ops.productKeyLookup(
        device.tensor([1, 1], [1, 1, 2, 1]),
        device.tensor(keys, [1, 2, n, 1]),
        {
          knn: 8,
          mask: device.tensor(mask, [1, 2, n]),
        },
      )
      expectClose('weights', await found.weights.data(), new Float32Array(8).fill(1 / 8), 1e-6)
    })
  })

  // Enough half-keys for bounds by products of bytes, where a machine has them.
  describe('many half-keys', () => {
    const s = { T: 60, H: 2, n: 601, d: 37, k: 16 }
    const each = (count: number, at: (line: number, i: number) => number) =>
      Float32Array.from({ length: count * s.d }, (_, i) => at(Math.floor(i / s.d), i % s.d))
    const noise = uniform(s.H * 2 * s.n * s.d, 31)
    const plain = (line: number, i: number) => noise[(line * s.d + i) % noise.length]!
    const tan = (line: number, i: number) => Math.tan(1.5 * plain(line, i))
    const kinds: Record<string, { query?: typeof plain; keys: typeof plain }> = {
      uniform: { keys: plain },
      'norms far apart': { keys: (j, i) => plain(j, i) * 10 ** (4 * plain(j, 0)) },
      'heavy tails': { query: tan, keys: tan },
      'one great dimension': {
        query: (t, i) => plain(t, i) * (i === 5 ? 30 : 1),
        keys: (j, i) => plain(j, i) * (i === 5 ? 30 : 1),
      },
      'nearly equal': { keys: (j, i) => plain(0, i) + 1e-4 * plain(j, i) },
      'few distinct': { keys: (j, i) => plain(j % 7, i) },
      'zero lines': {
        query: (t, i) => (t % 3 ? plain(t, i) : 0),
        keys: (j, i) => (j % 5 ? plain(j, i) : 0),
      },
      'all negative scores': {
        query: (t, i) => 1 + plain(t, i) / 2,
        keys: (j, i) => -1 - plain(j, i) / 2,
      },
      'some rows too great': { query: (t, i) => plain(t, i) * (t % 4 ? 1 : 1e17), keys: plain },
      'some rows too small': { query: (t, i) => plain(t, i) * (t % 4 ? 1 : 1e-20), keys: plain },
      'keys too great': { keys: (j, i) => plain(j, i) * (j % 100 ? 1 : 1e18) },
    }
    test.each(Object.entries(kinds))(
      '%s: each chosen score is exact, and none that was left is greater',
      async (_, { query = plain, keys }) => {
        const [q, k] = [each(s.T * s.H * 2, query), each(s.H * 2 * s.n, keys)]
        const found = ops.productKeyLookup(
          device.tensor(q, [s.T, s.H, 2, s.d]),
          device.tensor(k, [s.H, 2, s.n, s.d]),
          { knn: s.k },
        )
        const [scores, indices] = [await found.scores.data(), await found.indices.data()]
        const half = reference.halfScores(q, k, s)
        // of what each score is added up from
        const sizes = reference.halfScores(q.map(Math.abs), k.map(Math.abs), s)
        for (let th = 0; th < s.T * s.H; th++) {
          const own = (values: Float64Array, slot: number) => [
            values[th * 2 * s.n + Math.floor(slot / s.n)]!,
            values[(th * 2 + 1) * s.n + (slot % s.n)]!,
          ]
          const best = reference.lookup(
            half.subarray(th * 2 * s.n, (th + 1) * 2 * s.n),
            { ...s, T: 1, H: 1 },
            'none',
          ).scores
          const slots = indices.subarray(th * s.k, (th + 1) * s.k)
          expect(new Set(slots).size).toBe(s.k)
          for (const [r, slot] of slots.entries()) {
            const [one, other] = own(half, slot)
            const room = 3e-6 * (own(sizes, slot)[0]! + own(sizes, slot)[1]!)
            expect(Math.abs(scores[th * s.k + r]! - (one! + other!))).toBeLessThanOrEqual(
              room + 1e-30,
            )
            expect(scores[th * s.k + r]!).toBeGreaterThanOrEqual(best[r]! - 2 * room - 1e-30)
          }
        }
      },
    )

    test('exact in every tie: small integers, whose sums have no rounding', async () => {
      for (const seed of [1, 2, 3]) {
        const shape = { T: 40, H: 1, n: 520, d: 6, k: 32 }
        const q = Float32Array.from(integers(shape.T * 12, -9, 10, seed))
        const k = Float32Array.from(integers(shape.n * 12, -9, 10, seed + 10))
        const found = ops.productKeyLookup(
          device.tensor(q, [40, 1, 2, 6]),
          device.tensor(k, [1, 2, 520, 6]),
          { knn: 32 },
        )
        const wanted = reference.lookup(reference.halfScores(q, k, shape), shape, 'softmax')
        expect(Array.from(await found.indices.data())).toEqual(Array.from(wanted.indices))
        expect(Array.from(await found.scores.data(), (v) => v + 0)).toEqual(
          Array.from(wanted.scores, (v) => v + 0),
        )
      }
    })

    test('a token has the same bits whatever stands beside it', async () => {
      const [q, k] = [each(s.T * s.H * 2, plain), each(s.H * 2 * s.n, plain)]
      const keys = device.tensor(k, [s.H, 2, s.n, s.d])
      const alone = ops.productKeyLookup(device.tensor(q, [s.T, s.H, 2, s.d]), keys, { knn: s.k })
      const row = s.H * 2 * s.d
      // every other row of zeros, all of whose scores are equal
      const beside = new Float32Array(2 * q.length)
      for (let t = 0; t < s.T; t++) beside.set(q.subarray(t * row, (t + 1) * row), 2 * t * row)
      const both = ops.productKeyLookup(device.tensor(beside, [2 * s.T, s.H, 2, s.d]), keys, {
        knn: s.k,
      })
      const out = s.H * s.k
      for (const part of ['scores', 'indices', 'weights'] as const) {
        const [one, two] = [await alone[part].data(), await both[part].data()]
        for (let t = 0; t < s.T; t++)
          expect(two.subarray(2 * t * out, (2 * t + 1) * out), `${part} of token ${t}`).toEqual(
            one.subarray(t * out, (t + 1) * out),
          )
      }
    })

    test('NaN and infinities stay with their token, or with the keys of their head', async () => {
      const [q, k] = [each(s.T * s.H * 2, plain), each(s.H * 2 * s.n, plain)]
      const run = (query: Float32Array, keys: Float32Array) =>
        ops.productKeyLookup(
          device.tensor(query, [s.T, s.H, 2, s.d]),
          device.tensor(keys, [s.H, 2, s.n, s.d]),
          { knn: s.k },
        )
      const clean = await run(q, k).weights.data()
      const bad = q.slice()
      bad[(7 * s.H + 1) * 2 * s.d + 3] = Number.NaN // token 7, head 1
      const weights = await run(bad, k).weights.data()
      for (let th = 0; th < s.T * s.H; th++) {
        const own = weights.subarray(th * s.k, (th + 1) * s.k)
        if (th === 7 * s.H + 1) expect(own.every(Number.isNaN)).toBe(true)
        else expect(own).toEqual(clean.subarray(th * s.k, (th + 1) * s.k))
      }
      const worse = k.slice()
      worse[3] = Number.NaN // a key of head 0
      const all = await run(q, worse).weights.data()
      for (let th = 0; th < s.T * s.H; th++) {
        const own = all.subarray(th * s.k, (th + 1) * s.k)
        expect(own.every(th % s.H === 0 ? Number.isNaN : Number.isFinite)).toBe(true)
      }
    })
  })

  test('the gradients of every run have the same bits, one key hit by every token', async () => {
    const s = { T: 400, H: 2, n: 50, d: 12, k: 6 }
    const query = draw(device, [s.T, s.H, 2, s.d], 1)
    const keys = draw(device, [s.H, 2, s.n, s.d], 2)
    const dw = draw(device, [s.T, s.H, s.k], 3)
    const mask = new Uint8Array(2 * 2 * 50).fill(1)
    for (let hp = 0; hp < 4; hp++)
      for (let j = 3; j < 50; j++) if (hp % 2 === 0) mask[hp * 50 + j] = 0
    const found = ops.productKeyLookup(query.tensor, keys.tensor, {
      knn: s.k,
      mask: device.tensor(mask, [2, 2, 50]),
    })
    const run = () =>
      ops.productKeyLookupBackward(found, dw.tensor, { query: query.tensor, keys: keys.tensor })
    const [one, two] = [run(), run()]
    const saved = {
      indices: await found.indices.data(),
      scores: await found.scores.data(),
      weights: await found.weights.data(),
    }
    const wanted = reference.lookupBackward(query.data, keys.data, s, 'softmax', saved, dw.data)
    expectClose('dQuery', await one.dQuery.data(), wanted.dQuery, 1e-5)
    expectClose('dKeys', await one.dKeys.data(), wanted.dKeys, 1e-5)
    expect(await two.dQuery.data()).toEqual(await one.dQuery.data())
    expect(await two.dKeys.data()).toEqual(await one.dKeys.data())
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
          const q = Float32Array.from(integers(s.T * s.H * 4, -1, 2, seed))
          const keys = Float32Array.from(integers(s.H * 2 * s.n * 2, -2, 3, seed + 1))
          const found = ops.productKeyLookup(
            device.tensor(q, [s.T, s.H, 2, 2]),
            device.tensor(keys, [s.H, 2, s.n, 2]),
            { knn: s.k },
          )
          const wanted = reference.lookup(reference.halfScores(q, keys, s), s, 'softmax')
          expect(Array.from(await found.indices.data())).toEqual(Array.from(wanted.indices))
          expect(Array.from(await found.scores.data(), (v) => v + 0)).toEqual(
            Array.from(wanted.scores, (v) => v + 0),
          )
        },
      ),
      { numRuns: 80, seed: 3 },
    )
  })

  test('all scores equal: ids 0 …, pairs in rank order', async () => {
    const found = ops.productKeyLookup(device.zeros([2, 1, 2, 4]), device.zeros([1, 2, 9, 4]), {
      knn: 5,
    })
    expect(Array.from(await found.indices.data())).toEqual([0, 1, 2, 3, 4, 0, 1, 2, 3, 4])
    expectClose('weights', await found.weights.data(), new Float32Array(10).fill(0.2), 1e-6)
  })

  test.each(gates)(
    'the gradients equal the reference and are the slopes, gate %s',
    async (gate) => {
      for (const s of [
        shapes[1]!,
        shapes[2]!,
        { T: 4, H: 2, n: 6, d: 4, k: 3 },
        shapes[9]!,
        { T: 70, H: 2, n: 40, d: 70, k: 8 },
      ]) {
        const { query, keys } = draws(s, 4)
        const dw = draw(device, [s.T, s.H, s.k], 5)
        const found = ops.productKeyLookup(query.tensor, keys.tensor, { knn: s.k, gate })
        const { dQuery, dKeys } = ops.productKeyLookupBackward(found, dw.tensor, {
          query: query.tensor,
          keys: keys.tensor,
        })
        const indices = await found.indices.data()
        const saved = {
          indices,
          scores: await found.scores.data(),
          weights: await found.weights.data(),
        }
        const wanted = reference.lookupBackward(query.data, keys.data, s, gate, saved, dw.data)
        expectClose('dQuery', await dQuery.data(), wanted.dQuery, 1e-5)
        expectClose('dKeys', await dKeys.data(), wanted.dKeys, 1e-5)
        if (s.T > 10) continue
        // The selection constant: weights of the chosen pairs as a function of query and keys.
        const loss = (q: ArrayLike<number>, k: ArrayLike<number>) => {
          const half = reference.halfScores(q, k, s)
          let sum = 0
          for (let th = 0; th < s.T * s.H; th++) {
            const at = Array.from({ length: s.k }, (_, r) => th * s.k + r).filter(
              (i) => indices[i]! >= 0,
            )
            const own = at.map(
              (i) =>
                half[th * 2 * s.n + Math.floor(indices[i]! / s.n)]! +
                half[(th * 2 + 1) * s.n + (indices[i]! % s.n)]!,
            )
            sum += inner(
              reference.gateOf(gate, own),
              at.map((i) => dw.data[i]!),
            )
          }
          return sum
        }
        expectSlope('dQuery', await dQuery.data(), (q) => loss(q, keys.data), query.data, 1e-4)
        expectSlope('dKeys', await dKeys.data(), (k) => loss(query.data, k), keys.data, 1e-4)
      }
    },
  )

  describe('properties', () => {
    test('permuted keys give permuted slots', async () => {
      const s = { T: 4, H: 1, n: 20, d: 6, k: 6 }
      const { query, keys } = draws(s, 6)
      const order = reference.topK(draw(device, [20], 9).data, 20)
      const permuted = new Float32Array(keys.data.length)
      for (const p of [0, 1])
        for (const [to, from] of order.entries())
          permuted.set(
            keys.data.subarray((p * 20 + from) * 6, (p * 20 + from + 1) * 6),
            (p * 20 + to) * 6,
          )
      const one = ops.productKeyLookup(query.tensor, keys.tensor, { knn: 6 })
      const two = ops.productKeyLookup(query.tensor, device.tensor(permuted, [1, 2, 20, 6]), {
        knn: 6,
      })
      expect(
        Array.from(
          await two.indices.data(),
          (slot) => order[Math.floor(slot / 20)]! * 20 + order[slot % 20]!,
        ),
      ).toEqual(Array.from(await one.indices.data()))
      expect(await two.weights.data()).toEqual(await one.weights.data())
    })

    test('a scaled query scales the scores', async () => {
      const s = { T: 6, H: 2, n: 40, d: 8, k: 6 }
      const { query, keys } = draws(s, 7)
      const one = ops.productKeyLookup(query.tensor, keys.tensor, { knn: 6 })
      const two = ops.productKeyLookup(
        device.tensor(
          query.data.map((v) => v * 4),
          [6, 2, 2, 8],
        ),
        keys.tensor,
        { knn: 6 },
      )
      expect(await two.indices.data()).toEqual(await one.indices.data())
      expect(await two.scores.data()).toEqual((await one.scores.data()).map((v) => v * 4))
    })

    test('k = n*n selects every slot once', async () => {
      const s = { T: 2, H: 1, n: 4, d: 3, k: 16 }
      const { query, keys } = draws(s, 8)
      const indices = await ops
        .productKeyLookup(query.tensor, keys.tensor, { knn: 16 })
        .indices.data()
      expect([...indices.slice(0, 16)].sort((a, b) => a - b)).toEqual(
        Array.from({ length: 16 }, (_, i) => i),
      )
    })
  })

  describe('masks, infinities and NaN', () => {
    const s = { T: 5, H: 2, n: 300, d: 4, k: 8 }

    test('a masked key is never selected; fewer selectable than k leave empty places', async () => {
      const { query, keys } = draws(s, 9)
      for (const kept of [300, 100, 9, 3, 1, 0]) {
        const mask = Uint8Array.from({ length: 2 * 2 * 300 }, (_, i) =>
          (i * 37) % 300 < kept ? 1 : 0,
        )
        const found = ops.productKeyLookup(query.tensor, keys.tensor, {
          knn: s.k,
          mask: device.tensor(mask, [2, 2, 300]),
        })
        const wanted = reference.lookup(
          reference.halfScores(query.data, keys.data, s),
          s,
          'softmax',
          mask,
        )
        expect(Array.from(await found.indices.data()), `${kept} kept`).toEqual(
          Array.from(wanted.indices),
        )
        expectClose('weights', await found.weights.data(), wanted.weights, 1e-5)
      }
    })

    test('+Infinity wins and gives no NaN; -Infinity is never selected', async () => {
      const { query, keys } = draws({ ...s, d: 1 }, 10)
      const q = query.data.map(() => 1)
      const k = keys.data.slice()
      for (let hp = 0; hp < 4; hp++) {
        k[hp * 300 + 7] = Infinity
        k[hp * 300 + 8] = -Infinity
      }
      const shape = { ...s, d: 1 }
      const found = ops.productKeyLookup(
        device.tensor(q, [5, 2, 2, 1]),
        device.tensor(k, [2, 2, 300, 1]),
        { knn: s.k },
      )
      const indices = Array.from(await found.indices.data())
      expect(indices).toEqual(
        Array.from(
          reference.lookup(
            reference.halfScores(q, k, shape),
            shape,
            'softmax',
            undefined,
            Math.fround,
          ).indices,
        ),
      )
      expect(indices[0]).toBe(7 * 300 + 7)
      expect((await found.weights.data()).every(Number.isFinite)).toBe(true)
    })

    test('NaN makes all weights of its token and head NaN, with valid indices, and no others', async () => {
      const { query, keys } = draws(s, 11)
      const q = query.data.slice()
      q[((2 * 2 + 1) * 2 + 1) * 4] = Number.NaN // token 2, head 1, second half
      const clean = await ops
        .productKeyLookup(query.tensor, keys.tensor, { knn: s.k })
        .weights.data()
      const found = ops.productKeyLookup(device.tensor(q, [5, 2, 2, 4]), keys.tensor, { knn: s.k })
      const weights = await found.weights.data()
      for (let th = 0; th < 10; th++) {
        const own = weights.slice(th * 8, th * 8 + 8)
        if (th === 5) expect(own.every(Number.isNaN)).toBe(true)
        else expect(own).toEqual(clean.slice(th * 8, th * 8 + 8))
      }
      expect((await found.indices.data()).every((i) => i >= 0 && i < 90_000)).toBe(true)
      const k = keys.data.slice()
      k[3] = Number.NaN // one key of head 0: every token's head 0
      const all = await ops
        .productKeyLookup(query.tensor, device.tensor(k, [2, 2, 300, 4]), { knn: s.k })
        .weights.data()
      for (let th = 0; th < 10; th++)
        expect(
          all.slice(th * 8, th * 8 + 8).every(th % 2 === 0 ? Number.isNaN : Number.isFinite),
        ).toBe(true)
    })
  })

  test('no tokens; and every wrong argument by code', async () => {
    const keys = device.zeros([2, 2, 5, 3])
    const empty = ops.productKeyLookup(device.zeros([0, 2, 2, 3]), keys, { knn: 2 })
    expect((await empty.indices.data()).length).toBe(0)
    const query = device.zeros([4, 2, 2, 3])
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookup(device.zeros([4, 2, 6]), keys, { knn: 2 }),
    )
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookup(device.zeros([4, 1, 2, 3]), keys, { knn: 2 }),
    )
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookup(device.zeros([4, 2, 2, 4]), keys, { knn: 2 }),
    )
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookup(query, keys, { knn: 2, mask: device.zeros([2, 5], 'uint8') }),
    )
    await errorOf('ERR_DTYPE', () =>
      ops.productKeyLookup(query, keys, { knn: 2, mask: device.zeros([2, 2, 5]) }),
    )
    await errorOf('ERR_VALUE', () => ops.productKeyLookup(query, keys, { knn: 0 }))
    await errorOf('ERR_VALUE', () =>
      ops.productKeyLookup(query, keys, { knn: 2, gate: 'soft' as never }),
    )
    expect(
      await errorOf('ERR_OPTION', () =>
        ops.productKeyLookup(query, keys, { knn: 2, gates: 'relu' } as never),
      ),
    ).toMatch(/"gate"/)
    const found = ops.productKeyLookup(query, keys, { knn: 2 })
    await errorOf('ERR_SHAPE', () =>
      ops.productKeyLookupBackward(found, device.zeros([4, 2, 3]), { query, keys }),
    )
    const bad = { ...found, indices: device.tensor(new Int32Array(16).fill(25), [4, 2, 2]) }
    const { dKeys } = ops.productKeyLookupBackward(bad, device.zeros([4, 2, 2]), { query, keys })
    expect(await errorOf('ERR_INDEX_RANGE', () => dKeys.data())).toMatch(/is 25, outside \[0, 25\)/)
  })
})

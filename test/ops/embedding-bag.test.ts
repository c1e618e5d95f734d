import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/embedding-bag.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { expectSlope, inner } from '../support/differences.js'
import { errorOf } from '../support/errors.js'
import { draw, integers, uniform } from '../support/random.js'

onEveryDevice((device) => {
  const bag = (B: number, L: number, N: number, V: number, seed: number) => {
    const table = draw(device, [N, V], seed)
    const weights = draw(device, [B, L], seed + 1)
    const indices = integers(B * L, 0, N, seed + 2)
    return {
      table,
      weights,
      indices,
      tensor: device.tensor(indices, [B, L]),
      bags: { indices, weights: weights.data, offsets: reference.fixedOffsets(B, L) },
    }
  }

  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 768, 1000, 1024])(
    'width %i: y, dWeights and dTable equal the reference',
    async (V) => {
      const { table, weights, tensor, bags } = bag(5, 9, 40, V, V)
      const dy = draw(device, [5, V], V + 7)
      expectClose(
        'y',
        await ops.embeddingBag(table.tensor, tensor, weights.tensor).data(),
        reference.embeddingBag(table.data, V, bags),
        1e-6,
      )
      const { dWeights, dTable } = ops.embeddingBagBackward(
        dy.tensor,
        table.tensor,
        tensor,
        weights.tensor,
      )
      const wanted = reference.embeddingBagBackward(dy.data, table.data, V, bags)
      expectClose('dWeights', await dWeights.data(), wanted.dWeights, 1e-6)
      expectClose('dTable', await dTable.toDense().data(), wanted.dTable, 1e-6)
    },
  )

  test.each([1, 2, 31, 32, 33, 127, 128, 1000])('bags of %i', async (L) => {
    const { table, weights, tensor, bags } = bag(3, L, 500, 20, L)
    const dy = draw(device, [3, 20], L + 7)
    expectClose(
      'y',
      await ops.embeddingBag(table.tensor, tensor, weights.tensor).data(),
      reference.embeddingBag(table.data, 20, bags),
      2e-6,
    )
    const { dWeights, dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      tensor,
      weights.tensor,
    )
    const wanted = reference.embeddingBagBackward(dy.data, table.data, 20, bags)
    expectClose('dWeights', await dWeights.data(), wanted.dWeights, 1e-6)
    expectClose('dTable', await dTable.toDense().data(), wanted.dTable, 2e-6)
  })

  test('the gradients are the slopes', async () => {
    const { table, weights, tensor, bags } = bag(3, 5, 7, 6, 1)
    const dy = draw(device, [3, 6], 2)
    const { dWeights, dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      tensor,
      weights.tensor,
    )
    expectSlope(
      'dWeights',
      await dWeights.data(),
      (w) => inner(dy.data, reference.embeddingBag(table.data, 6, { ...bags, weights: w })),
      weights.data,
    )
    expectSlope(
      'dTable',
      await dTable.toDense().data(),
      (t) => inner(dy.data, reference.embeddingBag(t, 6, bags)),
      table.data,
    )
  })

  test.each<[DType, number]>([
    ['float16', 2 ** -11],
    ['bfloat16', 2 ** -8],
    ['int8', 0],
  ])('%s tables are read as they are stored', async (dtype) => {
    for (const V of [5, 16, 40, 64, 100, 128, 192, 256, 300]) {
      const N = 30
      const indices = integers(4 * 6, 0, N, V)
      const weights = draw(device, [4, 6], V + 1)
      const scales = draw(device, [N], V + 2)
      const table =
        dtype === 'int8'
          ? device.tensor(Int8Array.from(integers(N * V, -128, 128, V)))
          : device.tensor(uniform(N * V, V), undefined, dtype)
      const exact = dtype === 'int8' ? await table.data() : await table.to('float32').data()
      const bags = {
        indices,
        weights: weights.data,
        offsets: reference.fixedOffsets(4, 6),
        ...(dtype === 'int8' && { scales: scales.data }),
      }
      const options = dtype === 'int8' ? { scales: scales.tensor } : {}
      const shaped = table.reshape([N, V])
      const tensor = device.tensor(indices, [4, 6])
      expectClose(
        'y',
        await ops.embeddingBag(shaped, tensor, weights.tensor, options).data(),
        reference.embeddingBag(exact, V, bags),
        1e-6,
      )
      const dy = draw(device, [4, V], V + 3)
      const { dWeights } = ops.embeddingBagBackward(dy.tensor, shaped, tensor, weights.tensor, {
        ...options,
        needs: { table: false },
      })
      expectClose(
        'dWeights',
        await dWeights!.data(),
        reference.embeddingBagBackward(dy.data, exact, V, bags).dWeights,
        2e-6,
      )
    }
  })

  test.each<[number, DType]>([
    [1, 'float32'],
    [3, 'float32'],
    [6, 'float32'],
    [20, 'float32'],
    [1, 'bfloat16'],
    [3, 'float16'],
    [12, 'bfloat16'],
    [3, 'int8'],
    [20, 'int8'],
  ])('tensors that begin anywhere in memory: width %i, %s', async (V, dtype) => {
    const [B, L, N] = [4, 5, 9]
    const whole =
      dtype === 'int8'
        ? device.tensor(Int8Array.from(integers((N + 3) * V, -128, 128, V)), [N + 3, V])
        : device.tensor(uniform((N + 3) * V, V), [N + 3, V], dtype)
    const table = whole.rows(3, N + 3)
    const exact = (dtype === 'int8' ? await whole.data() : await whole.to('float32').data()).slice(
      3 * V,
    )
    const indices = integers((B + 1) * L, -1, N, V + 1).slice(L)
    const weights = draw(device, [B + 1, L], V + 2)
    const dy = draw(device, [B + 1, V], V + 3)
    const out = device.zeros([B + 1, V])
    const bags = { indices, weights: weights.data.slice(L), offsets: reference.fixedOffsets(B, L) }
    const tensor = device.tensor(integers((B + 1) * L, -1, N, V + 1), [B + 1, L]).rows(1, B + 1)
    const w = weights.tensor.rows(1, B + 1)
    ops.embeddingBag(table, tensor, w, { out: out.rows(1, B + 1) })
    const written = await out.data()
    expect(written.slice(0, V).every((v) => v === 0)).toBe(true)
    expectClose('y', written.slice(V), reference.embeddingBag(exact, V, bags), 2e-6)
    const grads = ops.embeddingBagBackward(dy.tensor.rows(1, B + 1), table, tensor, w, {
      needs: { table: dtype !== 'int8' },
    })
    const wanted = reference.embeddingBagBackward(dy.data.slice(V), exact, V, bags)
    expectClose('dWeights', await grads.dWeights!.data(), wanted.dWeights, 2e-6)
    if (dtype !== 'int8')
      expectClose('dTable', await grads.dTable!.toDense().data(), wanted.dTable, 2e-6)
  })

  describe('ragged bags', () => {
    test('any lengths, empty bags first, last and everywhere', async () => {
      await fc.assert(
        fc.asyncProperty(
          fc.array(fc.integer({ min: 0, max: 9 }), { maxLength: 12 }),
          fc.integer({ min: 1, max: 40 }),
          fc.nat(1000),
          async (lengths, V, seed) => {
            const offsets = [0]
            for (const l of lengths) offsets.push(offsets.at(-1)! + l)
            const places = offsets.at(-1)!
            const table = draw(device, [11, V], seed)
            const weights = draw(device, [places], seed + 1)
            const indices = integers(places, -1, 11, seed + 2)
            const dy = draw(device, [lengths.length, V], seed + 3)
            const bags = { indices, weights: weights.data, offsets }
            const options = { offsets: device.tensor(Int32Array.from(offsets)) }
            const tensor = device.tensor(indices)
            expectClose(
              'y',
              await ops.embeddingBag(table.tensor, tensor, weights.tensor, options).data(),
              reference.embeddingBag(table.data, V, bags),
              2e-6,
            )
            const { dWeights, dTable } = ops.embeddingBagBackward(
              dy.tensor,
              table.tensor,
              tensor,
              weights.tensor,
              options,
            )
            const wanted = reference.embeddingBagBackward(dy.data, table.data, V, bags)
            expectClose('dWeights', await dWeights.data(), wanted.dWeights, 2e-6)
            expectClose('dTable', await dTable.toDense().data(), wanted.dTable, 2e-6)
          },
        ),
        { numRuns: 40, seed: 1 },
      )
    })

    test('offsets that do not start at 0, fall, or do not end at the places are refused', async () => {
      const table = device.zeros([4, 2])
      for (const offsets of [
        [1, 3],
        [0, 2, 1, 3],
        [0, 2],
        [0, 4],
      ]) {
        const y = () =>
          ops.embeddingBag(table, device.tensor(new Int32Array(3)), device.zeros([3]), {
            offsets: device.tensor(Int32Array.from(offsets)),
          })
        expect(await errorOf('ERR_VALUE', () => y().data())).toMatch(/"offsets"/)
      }
    })
  })

  describe('properties', () => {
    test('a duplicate in a bag adds; the order of places only rounds differently; weights scale', async () => {
      const table = draw(device, [6, 33], 3)
      const y = async (indices: number[], weights: number[]) =>
        ops
          .embeddingBag(
            table.tensor,
            device.tensor(Int32Array.from(indices), [1, indices.length]),
            device.tensor(weights, [1, weights.length]),
          )
          .data()
      expectClose('duplicate', await y([2, 2], [0.25, 0.5]), await y([2], [0.75]), 1e-6)
      expectClose('permuted', await y([1, 4, 2], [1, 2, 3]), await y([2, 1, 4], [3, 1, 2]), 1e-6)
      expect(await y([1, 4], [2, 4])).toEqual((await y([1, 4], [1, 2])).map((v) => 2 * v))
    })

    test('one row read by every place: every thread count gives the same bits', async () => {
      const B = 1500
      const table = draw(device, [3, 70], 1)
      const indices = device.tensor(new Int32Array(B * 2).fill(1), [B, 2])
      const weights = draw(device, [B, 2], 2)
      const dy = draw(device, [B, 70], 3)
      const { dTable } = ops.embeddingBagBackward(dy.tensor, table.tensor, indices, weights.tensor)
      const got = await dTable.data()
      expect(Array.from(got.rows)).toEqual([1])
      const again = await ops
        .embeddingBagBackward(dy.tensor, table.tensor, indices, weights.tensor)
        .dTable.data()
      expect(again.values).toEqual(got.values)
      const bags = {
        indices: new Int32Array(B * 2).fill(1),
        weights: weights.data,
        offsets: reference.fixedOffsets(B, 2),
      }
      expectClose(
        'hot row',
        got.values,
        reference.embeddingBagBackward(dy.data, table.data, 70, bags).dTable.slice(70, 140),
        1e-5,
      )
    })

    test('hot rows first, last and side by side among rows of one place', async () => {
      const slots = 150
      const hot = new Map([0, 63, 64, 127, 149].map((row) => [row, 900]))
      hot.set(65, 256).set(66, 257)
      const rows = Array.from({ length: slots }, (_, row) => row)
      const inOrder = rows.flatMap((row) => Array.from({ length: hot.get(row) ?? 1 }, () => row))
      const places = Int32Array.from(inOrder, (_, i) => inOrder[(i * 7) % inOrder.length]!)
      const weights = draw(device, [places.length, 1], 2)
      const dy = draw(device, [places.length, 3], 3)
      const table = draw(device, [slots, 3], 4)
      const indices = device.tensor(places, [places.length, 1])
      const got = await ops
        .embeddingBagBackward(dy.tensor, table.tensor, indices, weights.tensor)
        .dTable.data()
      expect(Array.from(got.rows)).toEqual(rows)
      const bags = {
        indices: places,
        weights: weights.data,
        offsets: reference.fixedOffsets(places.length, 1),
      }
      expectClose(
        'rows',
        got.values,
        reference.embeddingBagBackward(dy.data, table.data, 3, bags).dTable,
        1e-5,
      )
    })

    test('few rows of very many: touched rows ascend, and each is the sum of its places', async () => {
      const slots = 2 ** 24
      const B = 300
      const spread = Int32Array.from({ length: 2 * B }, (_, i) =>
        i % 7 === 0 ? slots - 1 : (Math.imul(i % 250, 0x9e3779b1) >>> 8) % slots,
      )
      const weights = draw(device, [B, 2], 2)
      const dy = draw(device, [B, 1], 3)
      const wanted = new Map<number, number>()
      for (const [i, row] of spread.entries())
        wanted.set(row, (wanted.get(row) ?? 0) + weights.data[i]! * dy.data[i >> 1]!)
      const { dTable } = ops.embeddingBagBackward(
        dy.tensor,
        device.zeros([slots, 1]),
        device.tensor(spread, [B, 2]),
        weights.tensor,
      )
      const got = await dTable.data()
      const rows = [...wanted.keys()].sort((a, b) => a - b)
      expect(Array.from(got.rows)).toEqual(rows)
      expectClose(
        'sums',
        got.values,
        Float64Array.from(rows, (row) => wanted.get(row)!),
        1e-5,
      )
    })
  })

  describe('edges', () => {
    test('-1 is an empty place, whatever its weight; no places and no bags are fine', async () => {
      const table = draw(device, [4, 10], 1)
      const y = ops.embeddingBag(
        table.tensor,
        device.tensor(Int32Array.from([-1, 2, -1, -1]), [2, 2]),
        device.tensor([Number.NaN, 1, Number.NaN, 5], [2, 2]),
      )
      expect(await y.data()).toEqual(
        Float32Array.from([...table.data.slice(20, 30), ...new Float32Array(10)]),
      )
      for (const shape of [
        [0, 3],
        [3, 0],
      ] as const) {
        const empty = device.zeros(shape, 'int32')
        const out = ops.embeddingBag(table.tensor, empty, device.zeros(shape))
        expect((await out.data()).every((v) => v === 0)).toBe(true)
        const { dTable } = ops.embeddingBagBackward(
          device.zeros([shape[0], 10]),
          table.tensor,
          empty,
          device.zeros(shape),
        )
        expect((await dTable.data()).rows.length).toBe(0)
      }
      const all = ops.embeddingBagBackward(
        device.zeros([2, 10]),
        table.tensor,
        device.tensor(new Int32Array(4).fill(-1), [2, 2]),
        device.zeros([2, 2]),
      )
      expect((await all.dTable.data()).rows.length).toBe(0)
    })

    test('NaN and Infinity reach the bags that read them and no other', async () => {
      const data = uniform(4 * 17, 1)
      data[17 + 3] = Number.NaN
      data[34 + 4] = Infinity
      const y = await ops
        .embeddingBag(
          device.tensor(data, [4, 17]),
          device.tensor(Int32Array.from([0, 3, 1, 0, 2, 3]), [3, 2]),
          device.tensor([1, 1, 1, 1, 1, 1], [3, 2]),
        )
        .data()
      expect(y.slice(0, 17).every(Number.isFinite)).toBe(true)
      expect(y[17 + 3]).toBeNaN()
      expect(y[17 + 4]).toBe(Math.fround(data[17 + 4]! + data[4]!))
      expect(y[34 + 4]).toBe(Infinity)
    })

    test('an index out of range: at the call for numbers, at the next wait for tensors, in any position, forward and backward', async () => {
      const table = draw(device, [5, 8], 1)
      const weights = device.zeros([2, 3])
      for (const bad of [5, -2, 2 ** 31 - 1, -(2 ** 31)]) {
        for (let at = 0; at < 6; at++) {
          const indices = new Int32Array(6)
          indices[at] = bad
          const message = new RegExp(`"indices"\\[${at}\\] is ${bad}, outside \\[0, 5\\)`)
          expect(
            await errorOf('ERR_INDEX_RANGE', () =>
              ops.embeddingBag(table.tensor, indices, weights),
            ),
          ).toMatch(message)
          const tensor = device.tensor(indices, [2, 3])
          const y = ops.embeddingBag(table.tensor, tensor, weights)
          expect(await errorOf('ERR_INDEX_RANGE', () => y.data())).toMatch(message)
          const { dTable } = ops.embeddingBagBackward(
            device.zeros([2, 8]),
            table.tensor,
            tensor,
            weights,
            { needs: { weights: false } },
          )
          expect(await errorOf('ERR_INDEX_RANGE', () => dTable!.data())).toMatch(message)
          const { dWeights } = ops.embeddingBagBackward(
            device.zeros([2, 8]),
            table.tensor,
            tensor,
            weights,
            { needs: { table: false } },
          )
          expect(await errorOf('ERR_INDEX_RANGE', () => dWeights!.data())).toMatch(message)
        }
      }
      expect(await table.tensor.data()).toEqual(table.data)
      await device.synchronize()
    })

    test('indices may be numbers of any array, as long as they are integers in range', async () => {
      const table = draw(device, [5, 8], 1)
      const weights = device.tensor([1, 2, 3, 4], [2, 2])
      const wanted = await ops
        .embeddingBag(table.tensor, device.tensor(Int32Array.of(4, 0, 1, 1), [2, 2]), weights)
        .data()
      for (const indices of [
        Int32Array,
        Uint32Array,
        Int16Array,
        Uint8Array,
        Float64Array,
        Array,
      ].map((A) => A.of(4, 0, 1, 1)))
        expect(await ops.embeddingBag(table.tensor, indices, weights).data()).toEqual(wanted)
      await errorOf('ERR_INDEX_RANGE', () =>
        ops.embeddingBag(table.tensor, Uint32Array.of(4, 0, 2 ** 32 - 1, 1), weights),
      )
      await errorOf('ERR_INDEX_RANGE', () =>
        ops.embeddingBag(table.tensor, [4, 0, 0.5, 1], weights),
      )
      await errorOf('ERR_DTYPE', () =>
        ops.embeddingBag(table.tensor, new BigInt64Array(4) as never, weights),
      )
    })

    test('shapes, dtypes, devices and options are checked at the call', async () => {
      const table = device.zeros([5, 8])
      const indices = device.zeros([2, 3], 'int32')
      const weights = device.zeros([2, 3])
      await errorOf('ERR_SHAPE', () => ops.embeddingBag(table, indices, device.zeros([3, 2])))
      await errorOf('ERR_SHAPE', () => ops.embeddingBag(device.zeros([40]), indices, weights))
      await errorOf('ERR_SHAPE', () =>
        ops.embeddingBag(table, device.zeros([6], 'int32'), device.zeros([6])),
      )
      await errorOf('ERR_SHAPE', () => ops.embeddingBag(table, new Int32Array(5), weights))
      await errorOf('ERR_SHAPE', () =>
        ops.embeddingBag(table, indices, weights, { out: device.zeros([2, 9]) }),
      )
      await errorOf('ERR_SHAPE', () =>
        ops.embeddingBag(table, indices, weights, { scales: device.zeros([4]) }),
      )
      await errorOf('ERR_SHAPE', () =>
        ops.embeddingBagBackward(device.zeros([3, 8]), table, indices, weights),
      )
      await errorOf('ERR_DTYPE', () => ops.embeddingBag(table, device.zeros([2, 3]), weights))
      await errorOf('ERR_DTYPE', () => ops.embeddingBag(table, indices, indices))
      await errorOf('ERR_DTYPE', () =>
        ops.embeddingBag(device.zeros([5, 8], 'int32'), indices, weights),
      )
      await errorOf('ERR_DTYPE', () => ops.embeddingBag(3 as never, indices, weights))
      expect(
        await errorOf('ERR_OPTION', () =>
          ops.embeddingBag(table, indices, weights, { offset: 1 } as never),
        ),
      ).toMatch(/"offsets"/)
      expect(
        await errorOf('ERR_OPTION', () =>
          ops.embeddingBagBackward(device.zeros([2, 8]), table, indices, weights, {
            needs: { tables: true },
          } as never),
        ),
      ).toMatch(/"table"/)
    })

    test('out is written and returned', async () => {
      const table = draw(device, [5, 8], 1)
      const out = device.zeros([1, 8])
      const y = ops.embeddingBag(table.tensor, [3], device.tensor([2], [1, 1]), { out })
      expect(y).toBe(out)
      expect(await out.data()).toEqual(table.data.slice(24, 32).map((v) => 2 * v))
    })
  })
})

// Embedding bags at their edges, forward and backward: padding, empty shapes, NaN, indices out of
// range, tensors at any offset in memory, and what is checked at the call.

import { describe, expect, test } from 'vitest'
import { type DType, ops, type Tensor } from '../../lib/index.js'
import * as reference from '../reference/embedding-bag.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { integers, randomTensor, randomTensorOf, uniform } from '../support/random.js'
import { rowsOf } from '../support/rows.js'

onEveryDevice((device) => {
  test('padding entries are skipped, whatever their weights', async () => {
    const table = randomTensor(device, [4, 10], 1)
    const y = ops.embeddingBag(
      table.tensor,
      device.tensor(Int32Array.from([-1, 2, -1, -1]), [2, 2]),
      device.tensor([Number.NaN, 1, Number.NaN, 5], [2, 2]),
    )
    const [first, second] = rowsOf(await y.data(), 10)
    expect(first).toEqual(table.data.slice(2 * 10, 3 * 10))
    expect(second).toEqual(new Float32Array(10))
  })

  test.each([
    ['no bags', [0, 3]],
    ['bags without entries', [3, 0]],
  ] as const)('%s', async (_, [B, L]) => {
    const table = device.zeros([4, 10])
    const indices = device.zeros([B, L], 'int32')
    const weights = device.zeros([B, L])
    const y = ops.embeddingBag(table, indices, weights)
    const { dTable } = ops.embeddingBagBackward(device.zeros([B, 10]), table, indices, weights)
    expect(await y.data()).toEqual(new Float32Array(B * 10))
    expect((await dTable.data()).rows.length).toBe(0)
  })

  test('NaN and Infinity reach the bags that read them and no other', async () => {
    const V = 17
    const table = uniform(4 * V, 1)
    table[1 * V + 3] = Number.NaN
    table[2 * V + 4] = Infinity
    const indices = [
      [0, 3],
      [1, 0],
      [2, 3],
    ]
    const y = ops.embeddingBag(
      device.tensor(table, [4, V]),
      device.tensor(Int32Array.from(indices.flat()), [3, 2]),
      device.tensor([1, 1, 1, 1, 1, 1], [3, 2]),
    )
    const bags = rowsOf(await y.data(), V)
    expect(bags[0]!.every(Number.isFinite)).toBe(true)
    expect(bags[1]![3]).toBeNaN()
    expect(bags[1]![4]).toBe(Math.fround(table[1 * V + 4]! + table[4]!))
    expect(bags[2]![4]).toBe(Infinity)
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
    type Numbers = { tensor: Tensor; data: Float32Array }
    const skip = (rows: number, { tensor, data }: Numbers): Numbers => ({
      tensor: tensor.rows(rows, tensor.shape[0]!),
      data: data.slice(rows * tensor.shape[1]!),
    })
    const table = skip(3, await randomTensorOf(device, [N + 3, V], V, dtype))
    const weights = skip(1, randomTensor(device, [B + 1, L], V + 2))
    const dy = skip(1, randomTensor(device, [B + 1, V], V + 3))
    const allIndices = integers((B + 1) * L, -1, N, V + 1)
    const indices = device.tensor(allIndices, [B + 1, L]).rows(1, B + 1)
    const out = device.zeros([B + 1, V])

    ops.embeddingBag(table.tensor, indices, weights.tensor, { out: out.rows(1, B + 1) })
    const { dWeights, dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      indices,
      weights.tensor,
      { needs: { table: dtype !== 'int8' } },
    )

    const bags = {
      indices: allIndices.slice(L),
      weights: weights.data,
      offsets: reference.fixedOffsets(B, L),
    }
    const written = await out.data()
    expect(written.slice(0, V)).toEqual(new Float32Array(V))
    expectClose('y', written.slice(V), reference.embeddingBag(table.data, V, bags), 2e-6)
    const wanted = reference.embeddingBagBackward(dy.data, table.data, V, bags)
    expectClose('dWeights', await dWeights!.data(), wanted.dWeights, 2e-6)
    if (dtype !== 'int8') expectClose('dTable', await dTable!.toDense().data(), wanted.dTable, 2e-6)
  })

  test.each<[number, DType]>([
    [16, 'float32'],
    [64, 'float32'],
    [128, 'float32'],
    [64, 'float16'],
    [256, 'float16'],
    [32, 'bfloat16'],
    [256, 'bfloat16'],
    [64, 'int8'],
    [256, 'int8'],
  ])('rows of whole cache lines, in ragged bags with padding: width %i, %s', async (V, dtype) => {
    const [N, nnz] = [50, 150]
    const table = await randomTensorOf(device, [N, V], V, dtype)
    const indices = integers(nnz, -1, N, V).map((i, l) => (l % 7 === 3 || l > 146 ? -1 : i))
    const weights = uniform(nnz, V + 1)
    // A bag that is longer than rows are prefetched ahead, one of padding alone, an empty one.
    const offsets = Int32Array.of(0, 1, 80, 80, 83, 130, 147, nnz)

    const scales = randomTensor(device, [N], V + 2)
    const scaled = dtype === 'int8'

    const y = ops.embeddingBag(table.tensor, device.tensor(indices), device.tensor(weights), {
      offsets: device.tensor(offsets),
      ...(scaled && { scales: scales.tensor }),
    })

    const bags = { indices, weights, offsets, ...(scaled && { scales: scales.data }) }
    const wanted = reference.embeddingBag(table.data, V, bags)
    const got = await y.data()
    expectClose('y', got, wanted, 4e-6)
    expect(got.slice(-V)).toEqual(new Float32Array(V))
  })

  describe('an index out of range, at every entry', () => {
    const [B, L, N, V] = [2, 3, 5, 8]
    const table = randomTensor(device, [N, V], 1)
    const weights = device.zeros([B, L])
    const dy = device.zeros([B, V])
    const badIndices = [N, -2, 2 ** 31 - 1, -(2 ** 31)].flatMap((index) =>
      Array.from({ length: B * L }, (_, entry) => ({ index, entry })),
    )
    const withIndex = ({ index, entry }: { index: number; entry: number }) => {
      const indices = new Int32Array(B * L)
      indices[entry] = index
      return indices
    }
    const expectIndexError = async (
      { index, entry }: { index: number; entry: number },
      f: () => unknown,
    ) => {
      const message = await errorOf('ERR_INDEX_RANGE', f)
      expect(message).toContain(`"indices"[${entry}] is ${index}`)
      expect(message).toContain(`[0, ${N})`)
    }

    test('numbers are checked at the call', async () => {
      for (const bad of badIndices)
        await expectIndexError(bad, () => ops.embeddingBag(table.tensor, withIndex(bad), weights))
    })

    test('tensors are checked by the device, and reported at the next wait', async () => {
      for (const bad of badIndices) {
        const indices = device.tensor(withIndex(bad), [B, L])
        const y = ops.embeddingBag(table.tensor, indices, weights)
        await expectIndexError(bad, () => y.data())

        const { dTable } = ops.embeddingBagBackward(dy, table.tensor, indices, weights, {
          needs: { weights: false },
        })
        await expectIndexError(bad, () => dTable!.data())

        const { dWeights } = ops.embeddingBagBackward(dy, table.tensor, indices, weights, {
          needs: { table: false },
        })
        await expectIndexError(bad, () => dWeights!.data())
      }
      expect(await table.tensor.data()).toEqual(table.data)
      await device.synchronize()
    })
  })

  test('indices may be any array of integers in range', async () => {
    const table = randomTensor(device, [5, 8], 1).tensor
    const weights = device.tensor([1, 2, 3, 4], [2, 2])
    const tensor = device.tensor(Int32Array.of(4, 0, 1, 1), [2, 2])
    const wanted = await ops.embeddingBag(table, tensor, weights).data()
    for (const A of [Int32Array, Uint32Array, Int16Array, Uint8Array, Float64Array, Array])
      expect(await ops.embeddingBag(table, A.of(4, 0, 1, 1), weights).data()).toEqual(wanted)

    const bag = (indices: unknown) => ops.embeddingBag(table, indices as number[], weights)
    await errorOf('ERR_INDEX_RANGE', () => bag(Uint32Array.of(4, 0, 2 ** 32 - 1, 1)))
    await errorOf('ERR_INDEX_RANGE', () => bag([4, 0, 0.5, 1]))
    await errorOf('ERR_DTYPE', () => bag(new BigInt64Array(4)))
  })

  test.each([
    ['do not start at 0', [1, 3]],
    ['fall', [0, 2, 1, 3]],
    ['end before the entries', [0, 2]],
    ['end after the entries', [0, 4]],
  ])('offsets that %s are refused', async (_, offsets) => {
    const y = ops.embeddingBag(
      device.zeros([4, 2]),
      device.tensor(new Int32Array(3)),
      device.zeros([3]),
      { offsets: device.tensor(Int32Array.from(offsets)) },
    )
    expect(await errorOf('ERR_VALUE', () => y.data())).toContain('"offsets"')
  })

  test('shapes, dtypes and options are checked at the call', async () => {
    const table = device.zeros([5, 8])
    const indices = device.zeros([2, 3], 'int32')
    const weights = device.zeros([2, 3])
    const flat = device.zeros([6], 'int32')
    const bag = (t: Tensor, i: Tensor | Int32Array, w: Tensor, options?: object) => () =>
      ops.embeddingBag(t, i, w, options)
    await errorOf('ERR_SHAPE', bag(table, indices, device.zeros([3, 2])))
    await errorOf('ERR_SHAPE', bag(device.zeros([40]), indices, weights))
    await errorOf('ERR_SHAPE', bag(table, flat, device.zeros([6])))
    await errorOf('ERR_SHAPE', bag(table, new Int32Array(5), weights))
    await errorOf('ERR_SHAPE', bag(table, indices, weights, { out: device.zeros([2, 9]) }))
    await errorOf('ERR_SHAPE', bag(table, indices, weights, { scales: device.zeros([4]) }))
    await errorOf('ERR_DTYPE', bag(table, device.zeros([2, 3]), weights))
    await errorOf('ERR_DTYPE', bag(table, indices, indices))
    await errorOf('ERR_DTYPE', bag(device.zeros([5, 8], 'int32'), indices, weights))
    await errorOf('ERR_DTYPE', bag(3 as never, indices, weights))
    const forward = await errorOf('ERR_OPTION', bag(table, indices, weights, { offset: 1 }))
    expect(forward).toContain('"offsets"')

    const backward = (dy: Tensor, options?: object) =>
      ops.embeddingBagBackward(dy, table, indices, weights, options)
    await errorOf('ERR_SHAPE', () => backward(device.zeros([3, 8])))
    const message = await errorOf('ERR_OPTION', () =>
      backward(device.zeros([2, 8]), { needs: { tables: true } }),
    )
    expect(message).toContain('"table"')
  })
})

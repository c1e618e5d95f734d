import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/embedding.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor, randomTensorOf } from '../support/random.js'

onEveryDevice((device) => {
  test.each([
    ['float32', 1, [3]],
    ['float32', 64, [2, 5]],
    ['float16', 33, [7]],
    ['bfloat16', 40, [2, 2, 3]],
    ['int8', 20, [9, 1]],
    ['float32', 7, []],
  ] as const)('%s rows of %i by indices %j equal the reference', async (dtype, V, shape) => {
    const [slots, count] = [11, shape.reduce((a: number, b) => a * b, 1)]
    const table = await randomTensorOf(device, [slots, V], V, dtype)
    const scales = dtype === 'int8' ? randomTensor(device, [slots], 3) : undefined
    const indices = integers(count, -1, slots, V)
    const y = ops.embedding(
      table.tensor,
      device.tensor(indices, shape),
      scales && { scales: scales.tensor },
    )
    expect(y.shape).toEqual([...shape, V])
    const wanted = reference.embedding(table.data, V, indices, scales?.data)
    expectClose('y', await y.data(), wanted, 1e-7)
  })

  test('the gradient is that of the reference, and equals finite differences', () =>
    fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: -1, max: 5 }), { maxLength: 12 }),
        fc.integer({ min: 1, max: 20 }),
        fc.nat(1000),
        async (entries, V, seed) => {
          const table = randomTensor(device, [6, V], seed)
          const dy = randomTensor(device, [entries.length, V], seed + 1)
          const indices = device.tensor(Int32Array.from(entries))
          const dTable = ops.embeddingBackward(dy.tensor, table.tensor, indices)
          const dense = await dTable.toDense().data()
          const wanted = reference.embeddingBackward(dy.data, 6, V, entries)
          expectClose('dTable', dense, wanted, 1e-6)
          const loss = (t: ArrayLike<number>) => dot(dy.data, reference.embedding(t, V, entries))
          expectGradient('dTable', dense, loss, table.data)
          expect((await dTable.data()).rows).toEqual(
            Int32Array.from([...new Set(entries.filter((e) => e >= 0))].sort((a, b) => a - b)),
          )
        },
      ),
      { numRuns: 10 },
    ))

  test('a bag of one entry with weight 1 is the same, forward and backward', async () => {
    const table = randomTensor(device, [9, 24], 1).tensor
    const dy = randomTensor(device, [30, 24], 2).tensor
    const indices = device.tensor(integers(30, -1, 9, 3), [30, 1])
    const ones = device.tensor(new Float32Array(30).fill(1), [30, 1])
    const flat = indices.reshape([30])
    expect(await ops.embedding(table, flat).data()).toEqual(
      await ops.embeddingBag(table, indices, ones).data(),
    )
    const { dTable } = ops.embeddingBagBackward(dy, table, indices, ones)
    expect(await ops.embeddingBackward(dy, table, flat).data()).toEqual(await dTable.data())
  })

  test('numbers, NaN rows, padding beside them, and nothing', async () => {
    const table = device.tensor([1, 2, Number.NaN, Infinity], [2, 2])
    const y = await ops.embedding(table, [1, -1, 0]).data()
    expect(y).toEqual(Float32Array.of(Number.NaN, Infinity, 0, 0, 1, 2))
    expect(ops.embedding(table, []).shape).toEqual([0, 2])
    expect(ops.embedding(device.zeros([3, 0]), [1]).shape).toEqual([1, 0])
    await device.synchronize()
  })

  test('an index outside of the table is found, and named', async () => {
    const table = device.zeros([4, 3])
    for (const index of [4, -2, 2 ** 31 - 1]) {
      const y = ops.embedding(table, device.tensor(Int32Array.of(0, index)))
      expect(await errorOf('ERR_INDEX_RANGE', () => y.data())).toContain(`"indices"[1] is ${index}`)
    }
    expect(await errorOf('ERR_INDEX_RANGE', () => ops.embedding(table, [0, 4]))).toContain(
      'embedding: "indices"[1] is 4, outside [0, 4)',
    )
  })

  test('what is wrong is named', async () => {
    const table = device.zeros([4, 3])
    const indices = device.zeros([2], 'int32')
    await errorOf('ERR_SHAPE', () => ops.embedding(device.zeros([4]), indices))
    await errorOf('ERR_DTYPE', () => ops.embedding(device.zeros([4, 3], 'int32'), indices))
    await errorOf('ERR_DTYPE', () => ops.embedding(table, device.zeros([2])))
    await errorOf('ERR_SHAPE', () => ops.embedding(table, device.zeros(Array(6).fill(1), 'int32')))
    await errorOf('ERR_SHAPE', () => ops.embedding(table, indices, { scales: device.zeros([3]) }))
    await errorOf('ERR_SHAPE', () => ops.embeddingBackward(device.zeros([3, 3]), table, indices))
    await errorOf('ERR_OPTION', () => ops.embedding(table, indices, { scale: 1 } as never))
  })
})

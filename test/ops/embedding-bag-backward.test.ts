import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/embedding-bag.js'
import { type BagShape, raggedShapes, randomBags, randomRaggedBags } from '../support/bags.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { integers, randomTensor, randomTensorOf } from '../support/random.js'

onEveryDevice((device) => {
  async function expectGradients(shape: BagShape, seed: number, tableTolerance: number) {
    const { table, indices, weights, dy, bags } = randomBags(device, shape, seed)
    const { dWeights, dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      indices,
      weights.tensor,
    )
    const wanted = reference.embeddingBagBackward(dy.data, table.data, shape.V, bags)
    expectClose('dWeights', await dWeights.data(), wanted.dWeights, 1e-6)
    expectClose('dTable', await dTable.toDense().data(), wanted.dTable, tableTolerance)
  }

  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 768, 1000, 1024])(
    'width %i equals the reference',
    async (V) => {
      await expectGradients({ B: 5, L: 9, N: 40, V }, V, 1e-6)
    },
  )

  test.each([1, 2, 31, 32, 33, 127, 128, 1000])('bags of %i equal the reference', async (L) => {
    const V = 20
    await expectGradients({ B: 3, L, N: 500, V }, L, 2e-6)
  })

  test('the gradients equal finite differences', async () => {
    const V = 6
    const { table, indices, weights, dy, bags } = randomBags(device, { B: 3, L: 5, N: 7, V }, 1)
    const { dWeights, dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      indices,
      weights.tensor,
    )
    const loss = (t: ArrayLike<number>, w: ArrayLike<number>) =>
      dot(dy.data, reference.embeddingBag(t, V, { ...bags, weights: w }))
    expectGradient('dWeights', await dWeights.data(), (w) => loss(table.data, w), weights.data)
    expectGradient(
      'dTable',
      await dTable.toDense().data(),
      (t) => loss(t, weights.data),
      table.data,
    )
  })

  test.each<DType>(['float16', 'bfloat16', 'int8'])(
    '%s tables are read as they are stored',
    async (dtype) => {
      const [B, L, N] = [4, 6, 30]
      for (const V of [5, 16, 40, 64, 100, 128, 192, 256, 300]) {
        const table = await randomTensorOf(device, [N, V], V, dtype)
        const indices = integers(B * L, 0, N, V)
        const weights = randomTensor(device, [B, L], V + 1)
        const scales = randomTensor(device, [N], V + 2)
        const dy = randomTensor(device, [B, V], V + 3)
        const scaled = dtype === 'int8'

        const { dWeights } = ops.embeddingBagBackward(
          dy.tensor,
          table.tensor,
          device.tensor(indices, [B, L]),
          weights.tensor,
          { needs: { table: false }, ...(scaled && { scales: scales.tensor }) },
        )

        const wanted = reference.embeddingBagBackward(dy.data, table.data, V, {
          indices,
          weights: weights.data,
          offsets: reference.fixedOffsets(B, L),
          ...(scaled && { scales: scales.data }),
        })
        expectClose(`dWeights, width ${V}`, await dWeights!.data(), wanted.dWeights, 2e-6)
      }
    },
  )

  test('ragged bags equal the reference, with empty bags anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(...raggedShapes, async (lengths, V, seed) => {
        const { table, indices, weights, offsets, bags } = randomRaggedBags(
          device,
          lengths,
          V,
          seed,
        )
        const dy = randomTensor(device, [lengths.length, V], seed + 3)

        const { dWeights, dTable } = ops.embeddingBagBackward(
          dy.tensor,
          table.tensor,
          indices,
          weights.tensor,
          { offsets },
        )

        const wanted = reference.embeddingBagBackward(dy.data, table.data, V, bags)
        expectClose('dWeights', await dWeights.data(), wanted.dWeights, 2e-6)
        expectClose('dTable', await dTable.toDense().data(), wanted.dTable, 2e-6)
      }),
      { numRuns: 40, seed: 1 },
    )
  })

  test('padding has no gradient', async () => {
    const all = ops.embeddingBagBackward(
      device.zeros([2, 10]),
      device.zeros([4, 10]),
      device.tensor(new Int32Array(4).fill(-1), [2, 2]),
      device.zeros([2, 2]),
    )
    expect((await all.dTable.data()).rows.length).toBe(0)
    expect(Array.from(await all.dWeights.data())).toEqual([0, 0, 0, 0])
  })
})

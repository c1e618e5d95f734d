import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/embedding-bag.js'
import { raggedShapes, randomBags, randomRaggedBags } from '../support/bags.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { integers, randomTensor, randomTensorOf } from '../support/random.js'

onEveryDevice((device) => {
  test.each([1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 255, 256, 257, 768, 1000, 1024])(
    'width %i equals the reference',
    async (V) => {
      const { table, indices, weights, bags } = randomBags(device, { B: 5, L: 9, N: 40, V }, V)
      const y = ops.embeddingBag(table.tensor, indices, weights.tensor)
      expectClose('y', await y.data(), reference.embeddingBag(table.data, V, bags), 1e-6)
    },
  )

  test.each([1, 2, 31, 32, 33, 127, 128, 1000])('bags of %i equal the reference', async (L) => {
    const V = 20
    const { table, indices, weights, bags } = randomBags(device, { B: 3, L, N: 500, V }, L)
    const y = ops.embeddingBag(table.tensor, indices, weights.tensor)
    expectClose('y', await y.data(), reference.embeddingBag(table.data, V, bags), 2e-6)
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
        const scaled = dtype === 'int8'

        const y = ops.embeddingBag(
          table.tensor,
          device.tensor(indices, [B, L]),
          weights.tensor,
          scaled ? { scales: scales.tensor } : {},
        )

        const wanted = reference.embeddingBag(table.data, V, {
          indices,
          weights: weights.data,
          offsets: reference.fixedOffsets(B, L),
          ...(scaled && { scales: scales.data }),
        })
        expectClose(`y, width ${V}`, await y.data(), wanted, 1e-6)
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
        const y = ops.embeddingBag(table.tensor, indices, weights.tensor, { offsets })
        expectClose('y', await y.data(), reference.embeddingBag(table.data, V, bags), 2e-6)
      }),
      { numRuns: 40, seed: 1 },
    )
  })

  describe('properties', () => {
    const table = randomTensor(device, [6, 33], 3).tensor
    const bag = (indices: number[], weights: number[]) =>
      ops
        .embeddingBag(
          table,
          device.tensor(Int32Array.from(indices), [1, indices.length]),
          device.tensor(weights, [1, weights.length]),
        )
        .data()

    test('the weights of a duplicate index add up', async () => {
      expectClose('y', await bag([2, 2], [0.25, 0.5]), await bag([2], [0.75]), 1e-6)
    })

    test('the order of the entries changes the rounding only', async () => {
      expectClose('y', await bag([1, 4, 2], [1, 2, 3]), await bag([2, 1, 4], [3, 1, 2]), 1e-6)
    })

    test('twice the weights give exactly twice the output', async () => {
      const once = await bag([1, 4], [1, 2])
      expect(Array.from(await bag([1, 4], [2, 4]))).toEqual(Array.from(once, (v) => 2 * v))
    })
  })

  test('out is written and returned', async () => {
    const { tensor: table, data } = randomTensor(device, [5, 8], 1)
    const out = device.zeros([1, 8])
    const y = ops.embeddingBag(table, [3], device.tensor([2], [1, 1]), { out })
    expect(y).toBe(out)
    expect(await out.data()).toEqual(data.slice(3 * 8, 4 * 8).map((v) => 2 * v))
  })
})

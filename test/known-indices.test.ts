// Indices that a lookup made are not checked again; once anything has written to them, they are.

import { expect, test } from 'vitest'
import { ops, type Tensor } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'

onEveryDevice((device) => {
  const [tokens, heads, knn, nKeys, slots, dim] = [3, 2, 4, 8, 64, 4]

  function lookup() {
    const query = device.normal([tokens, heads, 2, 4], { seed: 1 })
    const keys = device.normal([heads, 2, nKeys, 4], { seed: 2 })
    return { query, keys, ...ops.productKeyLookup(query, keys, { knn }) }
  }
  const bagOf = (indices: Tensor, weights: Tensor, rows = slots) => {
    const table = device.normal([rows, dim], { seed: 3 })
    const shape = [tokens, heads * knn]
    return ops.embeddingBag(table, indices.reshape(shape), weights.reshape(shape))
  }
  const fails = (read: () => Promise<unknown>) => errorOf('ERR_INDEX_RANGE', read)

  test('a bag of a lookup is that of the same indices by hand', async () => {
    const { indices, weights } = lookup()
    const byHand = device.tensor(await indices.data(), indices.shape, 'int32')
    expect(await bagOf(indices, weights).data()).toEqual(await bagOf(byHand, weights).data())
  })

  // On CUDA the winners of a lookup are known to have few half-keys, and are sorted as so few.
  test('gradients of a lookup are those of the same indices by hand', async () => {
    const { query, keys, ...found } = lookup()
    const byHand = device.tensor(await found.indices.data(), found.indices.shape, 'int32')
    const dWeights = device.normal(found.weights.shape, { seed: 5 })
    const gradients = async (indices: Tensor<'int32'>) => {
      const lookup = { ...found, indices }
      const { dQuery, dKeys } = ops.productKeyLookupBackward(lookup, dWeights, { query, keys })
      return [await dQuery.data(), await dKeys.data()]
    }
    expect(await gradients(found.indices)).toEqual(await gradients(byHand))
  })

  const writes: Record<string, (indices: Tensor) => void> = {
    write: (t) => t.write(new Int32Array(t.size).fill(slots)),
    'write of a view': (t) => t.rows(1, 2).write(new Int32Array(heads * knn).fill(-2)),
    copyFrom: (t) =>
      t.copyFrom(device.tensor(new Int32Array(t.size).fill(slots), t.shape, 'int32')),
  }
  for (const [name, write] of Object.entries(writes)) {
    test(`after ${name} they are checked`, async () => {
      const { query, keys, ...found } = lookup()
      await bagOf(found.indices, found.weights).data()
      write(found.indices)
      await fails(() => bagOf(found.indices, found.weights).data())
      const dWeights = device.normal(found.weights.shape, { seed: 5 })
      await fails(() =>
        ops.productKeyLookupBackward(found, dWeights, { query, keys }).dQuery.data(),
      )
    })
  }

  test('a table with fewer slots than the lookup has checks them', async () => {
    const { indices, weights } = lookup()
    const largest = Math.max(...(await indices.data()))
    await bagOf(indices, weights, largest + 1).data()
    await fails(() => bagOf(indices, weights, largest).data())
  })

  test('a lookup that wrote over others, and one that is void', async () => {
    const { query, keys, indices, scores, weights } = lookup()
    indices.write(new Int32Array(indices.size).fill(slots))
    ops.productKeyLookup(query, keys, { knn, out: { indices, scores, weights } })
    await bagOf(indices, weights).data()
    const rows = device.normal([2, heads * 2 * 4], { seed: 4 })
    const bad = ops.embedding(rows, device.tensor([0, 1, 9], [3], 'int32'))
    const lost = ops.productKeyLookup(bad.reshape(query.shape), keys, { knn })
    await fails(() => bagOf(lost.indices, lost.weights).data())
  })
})

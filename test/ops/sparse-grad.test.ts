// The gradient of a table as touched rows: which they are, and the sums of rows that many entries
// read.

import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/embedding-bag.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test('a row that every entry reads: its sum, with the same bits in every run', async () => {
    const [B, L, N, V] = [1500, 2, 3, 70]
    const table = randomTensor(device, [N, V], 1)
    const weights = randomTensor(device, [B, L], 2)
    const dy = randomTensor(device, [B, V], 3)
    const indices = new Int32Array(B * L).fill(1)

    const run = () =>
      ops
        .embeddingBagBackward(
          dy.tensor,
          table.tensor,
          device.tensor(indices, [B, L]),
          weights.tensor,
        )
        .dTable.data()
    const [first, second] = [await run(), await run()]

    expect(Array.from(first.rows)).toEqual([1])
    expect(second.values).toEqual(first.values)
    const bags = { indices, weights: weights.data, offsets: reference.fixedOffsets(B, L) }
    const { dTable } = reference.embeddingBagBackward(dy.data, table.data, V, bags)
    expectClose('row 1', first.values, dTable.slice(V, 2 * V), 1e-5)
  })

  test('hot rows first, last and side by side among rows of one entry', async () => {
    const [N, V] = [150, 3]
    const hot = new Map([0, 63, 64, 127, 149].map((row) => [row, 900]))
    hot.set(65, 256).set(66, 257) // either side of where a row becomes hot
    const rows = Array.from({ length: N }, (_, row) => row)
    const ascending = rows.flatMap((row) => new Array<number>(hot.get(row) ?? 1).fill(row))
    const B = ascending.length
    const indices = Int32Array.from(ascending, (_, i) => ascending[(i * 7) % B]!)
    const weights = randomTensor(device, [B, 1], 2)
    const dy = randomTensor(device, [B, V], 3)
    const table = randomTensor(device, [N, V], 4)

    const { dTable } = ops.embeddingBagBackward(
      dy.tensor,
      table.tensor,
      device.tensor(indices, [B, 1]),
      weights.tensor,
    )

    const got = await dTable.data()
    expect(Array.from(got.rows)).toEqual(rows)
    const bags = { indices, weights: weights.data, offsets: reference.fixedOffsets(B, 1) }
    const wanted = reference.embeddingBagBackward(dy.data, table.data, V, bags)
    expectClose('values', got.values, wanted.dTable, 1e-5)
  })

  test('few rows of very many: they ascend, and each is the sum of its entries', async () => {
    const [B, L, N] = [300, 2, 2 ** 24]
    const indices = Int32Array.from({ length: B * L }, (_, entry) =>
      entry % 7 === 0 ? N - 1 : (Math.imul(entry % 250, 0x9e3779b1) >>> 8) % N,
    )
    const weights = randomTensor(device, [B, L], 2)
    const dy = randomTensor(device, [B, 1], 3)

    const { dTable } = ops.embeddingBagBackward(
      dy.tensor,
      device.zeros([N, 1]),
      device.tensor(indices, [B, L]),
      weights.tensor,
    )

    const sums = new Map<number, number>()
    for (const [entry, row] of indices.entries()) {
      const bag = Math.floor(entry / L)
      sums.set(row, (sums.get(row) ?? 0) + weights.data[entry]! * dy.data[bag]!)
    }
    const rows = [...sums.keys()].sort((a, b) => a - b)
    const got = await dTable.data()
    expect(Array.from(got.rows)).toEqual(rows)
    const wanted = Float64Array.from(rows, (row) => sums.get(row)!)
    expectClose('sums', got.values, wanted, 1e-5)
  })
})

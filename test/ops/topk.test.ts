import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import { topK } from '../reference/topk.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { uniform } from '../support/random.js'
import { orders, rowsOf, stack } from '../support/rows.js'

onEveryDevice((device) => {
  /** Values and indices must be exactly the reference's. */
  const expectTopK = async (rows: readonly ArrayLike<number>[], k: number) => {
    const n = rows[0]!.length
    const x = stack(rows)
    const found = ops.topK(device.tensor(x, [rows.length, n]), k)
    const values = rowsOf(await found.values.data(), k)
    const indices = rowsOf(await found.indices.data(), k)
    for (const [r, row] of rowsOf(x, n).entries()) {
      const wanted = topK(row, k)
      expect(Array.from(indices[r]!), `row ${r} of n ${n}, k ${k}`).toEqual(wanted)
      expect(values[r]).toEqual(Float32Array.from(wanted, (i) => row[i]!))
    }
  }

  test('every k up to n, every n around the vector widths', async () => {
    for (const n of [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 64, 65]) {
      for (let k = 1; k <= n; k++) await expectTopK([uniform(n, n * 100 + k)], k)
    }
  })

  test.each([100, 257, 511, 1000, 1024, 4099])('rows of %i', async (n) => {
    for (const k of [1, 2, 8, 31, 32, 33, 64, 65, 128, Math.min(n, 300), n])
      if (k <= n) await expectTopK([uniform(n, n), uniform(n, n + 1)], k)
  })

  test.each(
    Object.entries({
      ...orders,
      NaN: (i: number) => (i % 100 === 7 ? Number.NaN : Math.sin(i)),
      'all NaN': () => Number.NaN,
    }),
  )('ties and orders: %s', async (_, value) => {
    const row = Array.from({ length: 600 }, (_, i) => value(i))
    for (const k of [1, 2, 16, 32, 64, 100, 600]) await expectTopK([row], k)
  })

  test('small integers, with many ties', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: -3, max: 3 }), { minLength: 1, maxLength: 400 }),
        fc.nat(),
        async (row, pick) => {
          await expectTopK([row], 1 + (pick % row.length))
        },
      ),
      { numRuns: 60, seed: 2 },
    )
  })

  test('leading axes are kept, and no rows give no rows', () => {
    expect(ops.topK(device.zeros([2, 3, 5]), 2).values.shape).toEqual([2, 3, 2])
    expect(ops.topK(device.zeros([0, 5]), 2).indices.shape).toEqual([0, 2])
  })

  test('k, dtype and shape are checked', async () => {
    const x = device.zeros([2, 5])
    for (const k of [6, 0, 1.5]) await errorOf('ERR_VALUE', () => ops.topK(x, k))
    await errorOf('ERR_DTYPE', () => ops.topK(device.zeros([2, 5], 'int32'), 1))
    await errorOf('ERR_SHAPE', () => ops.topK(device.tensor([1], []), 1))
  })
})

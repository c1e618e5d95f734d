import { expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import * as reference from '../reference/softmax.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'
import { extremeRows, stack } from '../support/rows.js'

onEveryDevice((device) => {
  test.each([1, 2, 15, 16, 17, 250, 1000, 1025, 5000, 17000, 33000])(
    'rows of %i equal the reference, and gradients finite differences',
    async (n) => {
      const x = randomTensor(device, [3, n], n)
      const dy = randomTensor(device, [3, n], n + 1)
      const scaled = x.data.map((v) => v * 20)

      const y = await ops.softmax(device.tensor(scaled, [3, n])).data()
      const dx = await ops.softmaxBackward(dy.tensor, ops.softmax(x.tensor)).data()

      expectClose('y', y, reference.softmax(scaled, n), 5e-6)
      const wanted = reference.softmaxBackward(dy.data, reference.softmax(x.data, n), n)
      expectClose('dx', dx, wanted, 5e-6, magnitude(dy.data) / n)
      if (n > 100) return
      const loss = (v: ArrayLike<number>) => dot(dy.data, reference.softmax(v, n))
      expectGradient('dx', dx, loss, x.data, 2e-5)
    },
  )

  test('huge scores do not overflow, -Infinity has no weight, NaN fills its row', async () => {
    const x = [3e38, 0, -3e38, -Infinity, 1, 1, Number.NaN, 1, 1]
    const y = await ops.softmax(device.tensor(x, [3, 3])).data()
    expect(Array.from(y.slice(0, 6))).toEqual([1, 0, 0, 0, 0.5, 0.5])
    expect(y.slice(6).every(Number.isNaN)).toBe(true)
  })

  // However a row is split over threads, huge numbers, NaN and infinities give the same result.
  test.each([9, 900, 2000, 12000, 40000])(
    'rows of %i with one or two finite numbers, or none',
    async (n) => {
      const rows = extremeRows(n)
      const x = stack(Object.values(rows))
      const y = Array.from(await ops.softmax(device.tensor(x, [6, n])).data())
      const wanted: Record<keyof typeof rows, (y: number, i: number) => boolean> = {
        'two equal, near the end': (y, i) => y === (i === n - 4 || i === n - 3 ? 0.5 : 0),
        'one huge, at the end': (y, i) => y === (i === n - 1 ? 1 : 0),
        'one +Infinity': Number.isNaN,
        'one NaN, near the end': Number.isNaN,
        'all -Infinity': Number.isNaN,
        'all NaN': Number.isNaN,
      }
      for (const [r, [name, holds]] of Object.entries(wanted).entries())
        expect(y.slice(r * n, (r + 1) * n).every(holds), name).toBe(true)
    },
  )
})

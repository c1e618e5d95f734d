import { describe, expect, test } from 'vitest'
import { openDevice, ops } from '../../lib/index.js'
import { dropout } from '../reference/dropout.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice, testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test.each([
    [1, 0.5, 0, 0],
    [7, 0.1, 3, 1],
    [64, 0.9, 2 ** 52 + 1, 2 ** 45 + 3],
    [1003, 0.3, 5, 2],
    [40, 0, 1, 1],
  ])('%i elements, p %d, seed %d, step %d: equal to the reference', async (n, p, seed, step) => {
    const [x, dy] = [randomTensor(device, [n], n), randomTensor(device, [n], n + 1)]
    const options = { p, seed, step }
    const y = await ops.dropout(x.tensor, options).data()
    const dx = await ops.dropoutBackward(dy.tensor, options).data()
    expectClose('y', y, dropout(x.data, options), 1e-7)
    expectClose('dx', dx, dropout(dy.data, options), 1e-7)
    if (n > 100) return
    expectGradient('dx', dx, (v) => dot(dy.data, dropout(v, options)), x.data, 1e-6)
  })

  test('the share that is dropped is p, and the mean stays', async () => {
    const n = 40000
    const ones = device.tensor(new Float32Array(n).fill(1))
    for (const p of [0.05, 0.5, 0.8]) {
      const y = await ops.dropout(ones, { p, seed: 9 }).data()
      const dropped = y.filter((v) => v === 0).length
      expect(Math.abs(dropped - n * p)).toBeLessThan(5 * Math.sqrt(n * p * (1 - p)))
      expect(new Set(y)).toEqual(new Set([0, Math.fround(1 / (1 - p))]))
    }
  })

  test('a view of a tensor has a mask of its own, steps and seeds have others', async () => {
    const x = device.tensor(new Float32Array(2000).fill(1), [2, 1000])
    const of = (o: object) => ops.dropout(x, { p: 0.5, ...o }).data()
    const y = await of({})
    expect(await of({})).toEqual(y)
    expect(await of({ step: 1 })).not.toEqual(y)
    expect(await of({ seed: 1 })).not.toEqual(y)
    expect(await ops.dropout(x.rows(1, 2), { p: 0.5 }).data()).toEqual(y.slice(0, 1000))
    // an address that is no multiple of 16 bytes
    const odd = x.reshape([2000, 1]).rows(3, 1001)
    expect(await ops.dropout(odd, { p: 0.5 }).data()).toEqual(y.slice(0, 998))
  })

  test('p 0 is a copy, what is dropped is 0 whatever it was, out may be x', async () => {
    const data = Float32Array.of(Number.NaN, Infinity, -Infinity, -0, 1, 2, 3, 4)
    const x = device.tensor(data)
    expect(await ops.dropout(x, { p: 0 }).data()).toEqual(data)
    const y = await ops.dropout(x, { p: 0.999999, seed: 1 }).data()
    expect(y).toEqual(new Float32Array(8))
    const kept = await ops.dropout(x, { p: 0.5, seed: 2 }).data()
    expect(await ops.dropout(x, { p: 0.5, seed: 2, out: x }).data()).toEqual(kept)
    expect(ops.dropout(device.zeros([0, 3]), { p: 0.5 }).shape).toEqual([0, 3])
  })

  test('what is wrong is named', async () => {
    const x = device.zeros([3])
    for (const p of [1, -0.1, Number.NaN, undefined as never])
      await errorOf('ERR_VALUE', () => ops.dropout(x, { p }))
    await errorOf('ERR_VALUE', () => ops.dropoutBackward(x, { p: 0.5, step: -1 }))
    await errorOf('ERR_OPTION', () => ops.dropout(x, { p: 0.5, rate: 1 } as never))
    expect(
      await errorOf('ERR_DTYPE', () => ops.dropoutBackward(device.zeros([3], 'int32'), { p: 0 })),
    ).toContain('dropoutBackward: "dy"')
  })
})

describe('every device', () => {
  test('drops the same', async () => {
    const results = testDevices.map((name) => {
      const { tensor } = randomTensor(openDevice(name), [999], 5)
      return ops.dropout(tensor, { p: 0.4, seed: 11, step: 12 }).data()
    })
    for (const data of await Promise.all(results)) expect(data).toEqual(await results[0])
  })
})

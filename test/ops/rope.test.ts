import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openDevice, ops } from '../../lib/index.js'
import { type Rope, rope } from '../reference/rope.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice, testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { dot, expectGradient } from '../support/finite-differences.js'
import { randomTensor } from '../support/random.js'

onEveryDevice((device) => {
  test.each([
    [2, 5, 3, 8, 10000, 0],
    [1, 1, 9, 64, 500000, 7],
    [3, 4, 2, 6, 10000, 1000],
    [1, 3, 1, 2, 1, 5],
    [1, 2, 5, 34, 10000, 2 ** 31 - 1],
  ] as const)(
    '%i x %i tokens of %i heads of %i, theta %d, offset %d: equal to the reference',
    async (B, T, H, d, theta, offset) => {
      const shape = [B, T, H, d] as const
      const x = randomTensor(device, shape, B + d)
      const options = { theta, offset }
      const of = (sign: 1 | -1): Rope => ({ shape, theta, position: (_, t) => offset + t, sign })
      // the float64 reference itself loses digits of angles of 2^31
      const tolerance = offset > 2 ** 30 ? 3e-6 : 4e-7
      const y = await ops.rope(x.tensor, options).data()
      const dx = await ops.ropeBackward(x.tensor, options).data()
      expectClose('y', y, rope(x.data, of(1)), tolerance)
      expectClose('dx', dx, rope(x.data, of(-1)), tolerance)
      if (offset > 2 ** 30) return
      const loss = (xs: ArrayLike<number>) => dot(x.data, rope(xs, of(1)))
      expectGradient('dx', dx, loss, x.data, 1e-5)
    },
  )

  test('positions of each token, for all batches or for each', async () => {
    const shape = [2, 3, 2, 10] as const
    const x = randomTensor(device, shape, 1)
    for (const positions of [
      [4, 0, 123456],
      [0, 1, 2, -3, 70000, 9],
    ]) {
      const tensor = device.tensor(
        Int32Array.from(positions),
        positions.length === 3 ? [3] : [2, 3],
      )
      const position = (b: number, t: number) => positions[(b * 3 + t) % positions.length]!
      const wanted = rope(x.data, { shape, theta: 10000, position, sign: 1 })
      expectClose('y', await ops.rope(x.tensor, { positions: tensor }).data(), wanted, 4e-7)
      const back = ops.ropeBackward(ops.rope(x.tensor, { positions: tensor }), {
        positions: tensor,
      })
      expectClose('there and back', await back.data(), x.data, 4e-7)
    }
  })

  test('position 0 changes nothing, a later offset continues, out may be x', async () => {
    const x = randomTensor(device, [1, 6, 2, 12], 3).tensor
    const whole = await ops.rope(x).data()
    const half = whole.length / 2
    expect(whole.slice(0, 24)).toEqual((await x.data()).slice(0, 24))
    const later = ops.rope(x.reshape([6, 24]).rows(3, 6).reshape([1, 3, 2, 12]), { offset: 3 })
    expect(await later.data()).toEqual(whole.slice(half))
    expect(await ops.rope(x, { out: x }).data()).toEqual(whole)
  })

  test('scores of rotated queries and keys depend on the distance alone', () =>
    fc.assert(
      fc.asyncProperty(fc.nat(1e6), fc.nat(1000), fc.nat(1e6), async (seed, distance, shift) => {
        const [q, k] = [seed, seed + 1].map((s) => randomTensor(device, [1, 1, 1, 32], s).tensor)
        const score = async (offset: number) =>
          dot(
            await ops.rope(q!, { offset: offset + distance }).data(),
            await ops.rope(k!, { offset }).data(),
          )
        expectClose('score', [await score(shift)], [await score(0)], 1e-5, 10)
      }),
      { numRuns: 10 },
    ))

  test('NaN and infinities stay in their pair', async () => {
    const x = new Float32Array(16).fill(1)
    x[2] = Number.NaN
    x[5] = Infinity
    const y = await ops.rope(device.tensor(x, [1, 1, 1, 16]), { offset: 3 }).data()
    y.forEach((v, i) => {
      expect(Number.isFinite(v), `element ${i}`).toBe(![2, 10, 5, 13].includes(i))
    })
  })

  test('nothing to rotate', async () => {
    for (const shape of [
      [0, 3, 2, 4],
      [2, 0, 2, 4],
      [2, 3, 0, 4],
      [2, 3, 2, 0],
    ])
      expect(ops.rope(device.zeros(shape)).shape).toEqual(shape)
    await device.synchronize()
  })

  test('what is wrong is named', async () => {
    const x = device.zeros([2, 3, 1, 4])
    await errorOf('ERR_SHAPE', () => ops.rope(device.zeros([2, 3, 4])))
    expect(await errorOf('ERR_SHAPE', () => ops.rope(device.zeros([2, 3, 1, 5])))).toContain('even')
    await errorOf('ERR_DTYPE', () => ops.rope(device.zeros([2, 3, 1, 4], 'int32')))
    await errorOf('ERR_VALUE', () => ops.rope(x, { theta: 0.5 }))
    await errorOf('ERR_VALUE', () => ops.rope(x, { offset: -1 }))
    await errorOf('ERR_OPTION', () => ops.rope(x, { base: 1 } as never))
    const positions = device.zeros([3], 'int32')
    await errorOf('ERR_VALUE', () => ops.rope(x, { positions, offset: 1 }))
    await errorOf('ERR_DTYPE', () => ops.rope(x, { positions: device.zeros([3]) }))
    const message = await errorOf('ERR_SHAPE', () =>
      ops.ropeBackward(x, { positions: device.zeros([2], 'int32') }),
    )
    expect(message).toContain('ropeBackward: "positions" must have shape [3] or [2, 3]')
  })
})

describe('every device', () => {
  test('gives the same bits', async () => {
    const results = testDevices.map((name) => {
      const { tensor } = randomTensor(openDevice(name), [2, 3, 3, 20], 5)
      return ops.rope(tensor, { offset: 54321 }).data()
    })
    for (const data of await Promise.all(results)) expect(data).toEqual(await results[0])
  })
})

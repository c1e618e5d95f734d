import { describe, expect, test } from 'vitest'
import { ops } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { integers } from '../support/random.js'

const functions = {
  exp: { f: Math.exp, ulps: 3, low: -88, high: 89 },
  log: { f: Math.log, ulps: 2, low: 1e-38, high: 5 },
  sqrt: { f: Math.sqrt, ulps: 0.5, low: 0, high: 7 },
  tanh: { f: Math.tanh, ulps: 3, low: -10, high: 10 },
}
const names = Object.keys(functions) as (keyof typeof functions)[]

/** The distance of two neighbouring float32 numbers at a magnitude. */
function ulp(x: number): number {
  return 2 ** (Math.max(-126, Math.floor(Math.log2(Math.abs(x)))) - 23)
}

/** Every kind of float32 number: of each exponent and sign, with all sorts of mantissas. */
function allMagnitudes(): Float32Array {
  const mantissas = integers(256 * 2 * 12, 0, 2 ** 23, 7)
  const bits = Uint32Array.from(mantissas, (m, i) => ((i % 512) << 23) | (i < 1024 ? 0 : m))
  return new Float32Array(bits.buffer)
}

onEveryDevice((device) => {
  describe.each(names)('%s', (name) => {
    const { f, ulps, low, high } = functions[name]

    async function check(points: Float32Array): Promise<void> {
      const y = await ops[name](device.tensor(points)).data()
      for (const [i, x] of points.entries()) {
        const wanted = f(x)
        if (Number.isNaN(wanted)) {
          if (!Number.isNaN(y[i]!)) expect.fail(`${name}(${x}) is ${y[i]}, wanted NaN`)
          continue
        }
        const near = Number.isFinite(Math.fround(wanted))
          ? Math.abs(y[i]! - wanted) <= ulps * ulp(wanted) * (1 + 1e-6)
          : y[i] === Math.fround(wanted)
        // the largest finite results may round up to infinity
        const overflows = wanted > 3.4028e38 && wanted < 3.4029e38 && y[i] === Infinity
        if (!near && !overflows) expect.fail(`${name}(${x}) is ${y[i]}, wanted ${wanted}`)
      }
    }

    test('values within the promised ulps over the usual range', () =>
      check(Float32Array.from({ length: 4001 }, (_, i) => low + ((high - low) * i) / 4000)))

    test('values of every magnitude, subnormal numbers included', () => check(allMagnitudes()))

    test('infinities, NaN and the sign of zero', async () => {
      const x = [Infinity, -Infinity, Number.NaN, 0, -0]
      const y = await ops[name](device.tensor(x)).data()
      for (const [i, v] of x.entries()) expect(y[i], `${name}(${v})`).toBe(f(v))
    })

    test('of a scalar, of no elements, in place and in vectors of every length', async () => {
      expect((await ops[name](device.tensor([0.5], [])).data())[0]).toBeCloseTo(f(0.5), 6)
      expect(ops[name](device.zeros([3, 0])).shape).toEqual([3, 0])
      for (let n = 1; n < 40; n += 3) {
        const values = Float32Array.from({ length: n }, (_, i) => (i + 1) / n)
        const x = device.tensor(values)
        const fresh = await ops[name](x).data()
        for (const [i, v] of values.entries()) expect(fresh[i]).toBeCloseTo(f(v), 5)
        expect(ops[name](x, { out: x })).toBe(x)
        expect(await x.data()).toEqual(fresh)
      }
    })

    test('dtypes and options are checked', async () => {
      expect(await errorOf('ERR_DTYPE', () => ops[name](device.zeros([2], 'float16')))).toContain(
        `${name}: "x" must be float32`,
      )
      await errorOf('ERR_OPTION', () => ops[name](device.zeros([2]), { outt: 1 } as never))
    })
  })

  test('log undoes exp, and tanh is odd', async () => {
    const x = Float32Array.from({ length: 1001 }, (_, i) => (i - 500) / 100)
    const back = await ops.log(ops.exp(device.tensor(x))).data()
    for (const [i, v] of x.entries()) expect(Math.abs(back[i]! - v)).toBeLessThan(1e-6)
    const positive = await ops.tanh(device.tensor(x)).data()
    const negative = await ops.tanh(device.tensor(x.map((v) => -v))).data()
    expect(negative.map((v) => -v + 0)).toEqual(positive.map((v) => v + 0))
  })
})

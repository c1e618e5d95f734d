// Numbers are rounded once on their way to 16 bits: to the nearest, ties to even.

import { expect, test } from 'vitest'
import type { Tensor } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'

// The infinity of each dtype: the bits below it are its finite numbers, ascending.
const infinityBits = { float16: 0x7c00, bfloat16: 0x7f80 } as const
type Half = keyof typeof infinityBits

function numberOf(dtype: Half, bits: number): number {
  const [fraction, bias] = dtype === 'float16' ? [10, 15] : [7, 127]
  const exponent = bits >> fraction
  const mantissa = bits & ((1 << fraction) - 1)
  const whole = exponent === 0 ? mantissa : mantissa + (1 << fraction)
  return whole * 2 ** (Math.max(exponent, 1) - bias - fraction)
}

/** The float64 number after x > 0, or before it. */
function neighbour(x: number, step: 1n | -1n): number {
  const view = new DataView(new ArrayBuffer(8))
  view.setFloat64(0, x)
  view.setBigUint64(0, view.getBigUint64(0) + step)
  return view.getFloat64(0)
}

/**
 * Around the middle of every two neighbouring numbers, which is a float64: the middle, which goes
 * to the even one, and the float64 numbers before and after it. The last neighbour is infinity.
 * `step`: of how many pairs one is taken.
 */
function middles(dtype: Half, step: number): { numbers: number[]; bits: number[] } {
  const numbers: number[] = []
  const bits: number[] = []
  for (let low = 0; low < infinityBits[dtype]; low += step) {
    const middle = (numberOf(dtype, low) + numberOf(dtype, low + 1)) / 2
    const even = low + (low & 1)
    for (const [x, nearest] of [
      [neighbour(middle, -1n), low],
      [middle, even],
      [neighbour(middle, 1n), low + 1],
    ] as const) {
      numbers.push(x, -x)
      bits.push(nearest, nearest | 0x8000)
    }
  }
  return { numbers, bits }
}

onEveryDevice((device) => {
  test.each<Half>(['float16', 'bfloat16'])(
    '%s: every tie, and a float64 beside it',
    async (dtype) => {
      const { numbers, bits } = middles(dtype, device.kind === 'cpu' ? 1 : 13)
      const shape = [numbers.length]
      const off = async (t: Tensor<Half>) => {
        const got = await t.bits()
        const i = bits.findIndex((b, at) => got[at] !== b)
        return i < 0 ? '' : `${numbers[i]} became ${got[i]}, wanted ${bits[i]}`
      }
      expect(await off(device.tensor(numbers, shape, dtype))).toBe('')
      expect(await off(device.tensor(Float64Array.from(numbers), shape, dtype))).toBe('')
      expect(await off(device.empty(shape, dtype).write(numbers))).toBe('')
    },
  )

  test.each<Half>(['float16', 'bfloat16'])(
    '%s: the ends of the range, zeros, NaN',
    async (dtype) => {
      const x = [0, -0, 5e-324, -5e-324, 1e300, -1e300, Infinity, -Infinity]
      const infinity = infinityBits[dtype]
      const sign = 0x8000
      const wanted = [0, sign, 0, sign, infinity, infinity | sign, infinity, infinity | sign]
      expect(Array.from(await device.tensor(x, undefined, dtype).bits())).toEqual(wanted)
      expect(await device.tensor([Number.NaN], [1], dtype).data()).toEqual(
        Float32Array.of(Number.NaN),
      )
    },
  )

  test('large integers are rounded once, too', async () => {
    const tie = 2 ** 24 + 2 ** 16 // between two bfloat16 numbers
    const wanted = Float32Array.of(2 ** 24, 2 ** 24 + 2 ** 17)
    const t = device.tensor(new Int32Array([tie, tie + 1]), [2], 'bfloat16')
    expect(await t.data()).toEqual(wanted)
    expect(await t.write(new Uint32Array([tie, tie + 1])).data()).toEqual(wanted)
  })
})

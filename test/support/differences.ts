import { expect } from 'vitest'
import { magnitude } from './close.js'

/** Central differences of a float64 function of one array. */
export function differences(
  f: (x: Float64Array) => number,
  x: ArrayLike<number>,
  step = 1e-5,
): Float64Array {
  const at = Float64Array.from(x)
  return at.map((v, i) => {
    at[i] = v + step
    const up = f(at)
    at[i] = v - step
    const down = f(at)
    at[i] = v
    return (up - down) / (2 * step)
  })
}

/**
 * The gradient must be the slope of the reference, not only equal to the reference's own gradient.
 */
export function expectSlope(
  label: string,
  gradient: ArrayLike<number>,
  f: (x: Float64Array) => number,
  x: ArrayLike<number>,
  tolerance = 1e-5,
): void {
  const slope = differences(f, x)
  const scale = Math.max(magnitude(slope), 1e-3)
  for (const [i, s] of slope.entries()) {
    if (!(Math.abs(gradient[i]! - s) <= tolerance * scale))
      expect.fail(`${label}[${i}] is ${gradient[i]}, the slope is ${s}`)
  }
}

/** <a, b> in float64. */
export function inner(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

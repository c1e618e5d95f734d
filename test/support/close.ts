import { expect } from 'vitest'

/** The largest absolute value. */
export function magnitude(x: ArrayLike<number>): number {
  let max = 0
  for (let i = 0; i < x.length; i++) max = Math.max(max, Math.abs(x[i]!))
  return max
}

/**
 * Every number within `tolerance` of the wanted one, relative to the largest wanted magnitude. NaN
 * is a failure unless it is wanted.
 */
export function expectClose(
  label: string,
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance = 1e-5,
  scale = magnitude(wanted),
): void {
  expect(got.length, `${label}: length`).toBe(wanted.length)
  for (let i = 0; i < wanted.length; i++) {
    const w = wanted[i]!
    const g = got[i]!
    const close = Number.isNaN(w)
      ? Number.isNaN(g)
      : g === w || Math.abs(g - w) <= tolerance * scale
    if (!close) expect.fail(`${label}[${i}] is ${g}, wanted ${w} within ${tolerance} of ${scale}`)
  }
}

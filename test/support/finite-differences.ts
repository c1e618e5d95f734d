import { expect } from 'vitest'
import type { Tensor } from '../../lib/index.js'
import { magnitude } from './close.js'

/** Central differences of a float64 function of one array, element by element. */
export function finiteDifferences(
  f: (x: Float64Array) => number,
  x: ArrayLike<number>,
  step = 1e-5,
): Float64Array {
  const moved = Float64Array.from(x)
  return moved.map((v, i) => {
    moved[i] = v + step
    const up = f(moved)
    moved[i] = v - step
    const down = f(moved)
    moved[i] = v
    return (up - down) / (2 * step)
  })
}

/**
 * The gradient must equal the finite differences of the reference, not only the reference's own
 * gradient.
 */
export function expectGradient(
  label: string,
  gradient: ArrayLike<number>,
  f: (x: Float64Array) => number,
  x: ArrayLike<number>,
  tolerance = 1e-5,
): void {
  const wanted = finiteDifferences(f, x)
  const scale = Math.max(magnitude(wanted), 1e-3)
  for (const [i, w] of wanted.entries()) {
    if (!(Math.abs(gradient[i]! - w) <= tolerance * scale))
      expect.fail(`${label}[${i}] is ${gradient[i]}, the finite difference is ${w}`)
  }
}

/** A loss; it is smooth in its tensors as long as `selection` stays the same. */
export interface Loss {
  loss: number
  selection?: string
}

/**
 * Central difference of a loss that the device computes, along a direction in one of the tensors
 * that it reads; undefined if the selection at either end is not the one given.
 */
async function directionalDerivative(
  evaluate: () => Promise<Loss>,
  tensor: Tensor,
  direction: Float32Array,
  step: number,
  selection: string | undefined,
): Promise<number | undefined> {
  const before = (await tensor.data()) as Float32Array
  tensor.write(before.map((v, i) => v + step * direction[i]!))
  const up = await evaluate()
  tensor.write(before.map((v, i) => v - step * direction[i]!))
  const down = await evaluate()
  tensor.write(before)
  const smooth = up.selection === selection && down.selection === selection
  return smooth ? (up.loss - down.loss) / (2 * step) : undefined
}

/**
 * The gradient of a loss that the device computes must equal its central difference along a random
 * direction, for one of the steps: a kink on the way asks for a smaller step, and so does a
 * selection that changes, or for another direction.
 */
export async function expectDirectionalGradient(
  label: string,
  gradient: ArrayLike<number>,
  evaluate: () => Promise<Loss>,
  tensor: Tensor,
  { steps, tolerance }: { steps: readonly number[]; tolerance: number },
): Promise<void> {
  const { selection } = await evaluate()
  for (const seed of [77, 78, 79, 80]) {
    const direction = (await tensor.device.normal([tensor.size], { seed }).data()) as Float32Array
    const terms = Float64Array.from(direction, (d, i) => d * gradient[i]!)
    const scale = Math.sqrt(dot(terms, terms)) + 1e-3
    const wanted = dot(direction, gradient)
    const slopes: number[] = []
    for (const step of steps) {
      const slope = await directionalDerivative(evaluate, tensor, direction, step, selection)
      if (slope === undefined) continue
      if (Math.abs(slope - wanted) <= tolerance * scale) return
      slopes.push(slope)
    }
    if (slopes.length > 0)
      expect.fail(`${label}: the gradient gives ${wanted}, the differences are ${slopes.join()}`)
  }
  expect.fail(`${label}: the selection changed at every step`)
}

/** <a, b> in float64. */
export function dot(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let sum = 0
  for (let i = 0; i < a.length; i++) sum += a[i]! * b[i]!
  return sum
}

// Sizes of axes.

import { describeValue, fail, isArray } from './errors.js'

/** A shape in messages: `[4, 32]`. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** Elements of a tensor, at most, with sizes of 0 counted as 1: native/core/view.h. */
export const maxElements = 2 ** 50

/** A copy of a shape that the user gave. @throws ERR_SHAPE */
export function checkShape(where: string, shape: readonly number[]): number[] {
  if (!isArray(shape)) fail('ERR_SHAPE', where, 'shape', 'be an array of sizes', shape)
  const rank = shape.length
  if (!(rank <= 6)) fail('ERR_SHAPE', where, 'shape', 'have at most 6 axes', rank)
  const sizes: number[] = []
  let count = 1
  for (let axis = 0; axis < rank; axis++) {
    const size: unknown = shape[axis]
    if (typeof size !== 'number' || !Number.isInteger(size) || size < 0)
      fail('ERR_SHAPE', where, `shape[${axis}]`, 'be an integer from 0', describeValue(size))
    sizes.push(size)
    count *= Math.max(1, size)
  }
  if (count > maxElements) {
    const requirement = 'have at most 2^50 elements, sizes of 0 counted as 1'
    fail('ERR_SHAPE', where, 'shape', requirement, formatShape(sizes))
  }
  return sizes
}

/** The number of elements of a shape. */
export function countElements(shape: readonly number[]): number {
  return shape.reduce((a, b) => a * b, 1)
}

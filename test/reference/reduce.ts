// Sum, mean and max over axes in float64.

import { indicesOf, type NdArray, positionIn } from './arithmetic.js'

export type Kind = 'sum' | 'mean' | 'max'

/** The shape with the axes as sizes of 1. */
export function keptShape(shape: readonly number[], axes: readonly number[]): number[] {
  return shape.map((size, axis) => (axes.includes(axis) ? 1 : size))
}

/** The values of each output, in order, with their positions in x. */
function groups(x: NdArray, axes: readonly number[]): { at: number; value: number }[][] {
  const kept = keptShape(x.shape, axes)
  const lists = Array.from(
    { length: kept.reduce((a, b) => a * b, 1) },
    (): { at: number; value: number }[] => [],
  )
  for (let at = 0; at < x.data.length; at++) {
    const value = x.data[at]!
    lists[positionIn(kept, indicesOf(x.shape, at))]!.push({ at, value })
  }
  return lists
}

/** The first max, where NaN is the greatest. */
function firstMax(list: { at: number; value: number }[]): { at: number; value: number } {
  let best = list[0]!
  for (const v of list)
    if (!Number.isNaN(best.value) && (v.value > best.value || Number.isNaN(v.value))) best = v
  return best
}

export function reduce(kind: Kind, x: NdArray, axes: readonly number[]): Float64Array {
  return Float64Array.from(groups(x, axes), (list) => {
    if (kind === 'max') return firstMax(list).value
    const sum = list.reduce((total, { value }) => total + value, 0)
    return kind === 'mean' ? sum / list.length : sum
  })
}

/** The gradient of {@link reduce}: dy has an element for each output. */
export function reduceBackward(
  kind: Kind,
  dy: ArrayLike<number>,
  x: NdArray,
  axes: readonly number[],
): Float64Array {
  const dx = new Float64Array(x.data.length)
  for (const [output, list] of groups(x, axes).entries()) {
    const g = dy[output]!
    if (kind === 'max') dx[firstMax(list).at] = g
    else for (const { at } of list) dx[at] = kind === 'mean' ? g / list.length : g
  }
  return dx
}

// Axes that the user names: from 0, and from the end with negative numbers.

import { describeValue, fail, isArray } from './errors.js'

/** @internal The axis, counted from 0, of a tensor of `rank` axes. @throws ERR_VALUE */
export function checkAxis(where: string, name: string, axis: unknown, rank: number): number {
  if (typeof axis !== 'number' || !Number.isInteger(axis) || axis < -rank || axis >= rank) {
    const range = rank === 0 ? 'name no axis of a tensor without axes' : axisRange(rank)
    fail('ERR_VALUE', where, name, range, describeValue(axis))
  }
  return axis < 0 ? axis + rank : axis
}

function axisRange(rank: number): string {
  return `be an axis of the tensor, an integer from ${-rank} to ${rank - 1}`
}

/** @internal A set of axes as bits, as native code takes them; all of them where left out. */
export function checkAxes(where: string, axes: unknown, rank: number): number {
  if (axes === undefined) return 2 ** rank - 1
  if (typeof axes === 'number') return 2 ** checkAxis(where, 'axes', axes, rank)
  if (!isArray(axes)) fail('ERR_VALUE', where, 'axes', 'be an axis or an array of axes', axes)
  let set = 0
  for (let i = 0; i < axes.length; i++) {
    const bit = 2 ** checkAxis(where, `axes[${i}]`, axes[i], rank)
    if (set & bit)
      fail('ERR_VALUE', where, `axes[${i}]`, 'be another axis than those before it', axes[i])
    set |= bit
  }
  return set
}

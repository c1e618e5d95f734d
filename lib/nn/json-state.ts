// The state of a program in a checkpoint: what JSON has.

import { describeValue, isObject, shorten } from '../describe.js'
import { fail, isArray } from '../errors.js'

const maxDepth = 100

/** A copy of a state, each property read once: what JSON keeps of it must be all of it. */
export function checkJson(where: string, state: unknown): unknown {
  const copy = (value: unknown, path: string, depth: number): unknown => {
    if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
    if (Number.isFinite(value)) return value
    const plain = isObject(value) && Object.getPrototypeOf(value) === Object.prototype
    if (depth > maxDepth || !(isArray(value) || plain))
      fail('ERR_VALUE', where, shorten(path), 'be a value of JSON', describeValue(value))
    const item = (key: number | string, item: unknown) => copy(item, `${path}.${key}`, depth + 1)
    if (isArray(value)) return Array.from(value, (element, i) => item(i, element))
    return Object.fromEntries(Object.entries(value).map(([key, v]) => [key, item(key, v)]))
  }
  return state === undefined ? null : copy(state, 'state', 0)
}

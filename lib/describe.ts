// Values of the user in a few words, for messages. No code of the value's own runs: no getter, no
// toString, no trap of a Proxy.

import { isProxy } from 'node:util/types'
import { typedArrayLength, typedArrayName } from './typed-array.js'

const maxLength = 120
const maxElements = 8
const maxDepth = 2

/**
 * Whether this is an object that holds options or tensors by name: no array, and no Proxy that was
 * revoked.
 */
export function isObject(value: unknown): value is object {
  if (typeof value !== 'object' || value === null) return false
  try {
    return !Array.isArray(value) && !ArrayBuffer.isView(value)
  } catch {
    return false
  }
}

/** `instanceof`, which throws for a Proxy that was revoked. */
export function isInstance<T>(value: unknown, of: abstract new (...args: never) => T): value is T {
  try {
    return value instanceof of
  } catch {
    return false
  }
}

/** A text, cut where it is long. */
export function shorten(text: string, length = maxLength): string {
  return text.length <= length ? text : `${text.slice(0, length)}…`
}

/** A path in messages. */
export function quotePath(path: string): string {
  return `"${shorten(path, 300)}"`
}

/** A value in a few words: `"abc"`, `[1, 2]`, `Float32Array of 4`, `a Map`. */
export function describeValue(value: unknown, depth = 0): string {
  switch (typeof value) {
    case 'string':
      return JSON.stringify(shorten(value))
    case 'function':
      return 'a function'
    case 'bigint':
      return `${shorten(String(value))}n`
    case 'object':
      return value === null ? 'null' : describeObject(value, depth)
    default:
      return shorten(String(value))
  }
}

function describeObject(value: object, depth: number): string {
  if (isProxy(value)) return 'a Proxy'
  const kind = typedArrayName(value)
  if (kind) return `${kind} of ${typedArrayLength(value)}`
  if (Array.isArray(value)) return describeArray(value, depth)
  const name = className(value)
  return `${/^([AEIOU]|object$)/.test(name) ? 'an' : 'a'} ${name}`
}

function describeArray(value: readonly unknown[], depth: number): string {
  if (value.length > maxElements || depth >= maxDepth) return `an array of ${value.length}`
  const elements = Array.from(value.keys(), (i) => {
    const element = Object.getOwnPropertyDescriptor(value, i)
    return element && 'value' in element ? describeValue(element.value, depth + 1) : 'undefined'
  })
  return `[${elements.join(', ')}]`
}

// The name of the class that made an object, read from data properties alone.
function className(value: object): string {
  for (let at: object | null = value; at && !isProxy(at); at = Object.getPrototypeOf(at)) {
    const made: unknown = Object.getOwnPropertyDescriptor(at, 'constructor')?.value
    if (typeof made !== 'function' || isProxy(made)) continue
    const name: unknown = Object.getOwnPropertyDescriptor(made, 'name')?.value
    if (typeof name === 'string' && name !== '') return shorten(name)
  }
  return 'object'
}

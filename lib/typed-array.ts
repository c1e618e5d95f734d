// Typed arrays as the engine knows them: recognised by their internal slots, which neither another
// realm (a vm context, a test runner, another addon), nor a subclass, nor a property can change.

import { isSharedArrayBuffer } from 'node:util/types'

/**
 * A Float16Array, without the TypeScript library that declares it: runtimes since Node 24 have it.
 */
export interface Float16Data {
  /** Number of elements. */
  readonly length: number
  /** 2 */
  readonly BYTES_PER_ELEMENT: number
  /** The memory it shows. */
  readonly buffer: ArrayBufferLike
  /** Which of the typed arrays it is. */
  readonly [Symbol.toStringTag]: 'Float16Array'
  [index: number]: number
}

/** Arrays of numbers that tensors are made from. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Float16Data
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array

/** Which of the typed arrays, of numbers or of bigints. */
export type TypedArrayName =
  | TypedArray[typeof Symbol.toStringTag]
  | 'BigInt64Array'
  | 'BigUint64Array'

const prototype: object = Object.getPrototypeOf(Uint8Array.prototype)

// What the getter of a typed array's property gives for any object: its own properties are not
// asked.
function getter<T>(name: string | symbol): (value: unknown) => T {
  const { get } = Object.getOwnPropertyDescriptor(prototype, name)!
  return Function.prototype.call.bind(get!) as (value: unknown) => T
}

/** Which typed array this is; undefined for everything else, a DataView or Proxy among it. */
export const typedArrayName = getter<TypedArrayName | undefined>(Symbol.toStringTag)

/** The number of elements of a typed array; 0 of one whose memory is gone. */
export const typedArrayLength = getter<number>('length')

const bufferOf = getter<ArrayBufferLike>('buffer')
const byteOffsetOf = getter<number>('byteOffset')
// Throws where the memory is gone.
const checkMemory = Function.prototype.call.bind(Uint8Array.prototype.keys) as (a: unknown) => void

/** Whether a typed array's buffer was transferred, or shrunk to before the array's end. */
export function isDetached(array: object): boolean {
  if (typedArrayLength(array) > 0) return false
  try {
    checkMemory(array)
    return false
  } catch {
    return true
  }
}

/** The array itself, or a copy of one over a SharedArrayBuffer, to which other threads write. */
export function unsharedArray<T extends object>(array: T): T {
  const buffer = bufferOf(array)
  if (!isSharedArrayBuffer(buffer)) return array
  const Same = (globalThis as unknown as Record<string, ArrayConstructor>)[typedArrayName(array)!]!
  return new Same(new Same(buffer, byteOffsetOf(array), typedArrayLength(array))) as unknown as T
}

/** The memory of a typed array of 16-bit elements as their bits. */
export function bitsOf(array: object): Uint16Array {
  return new Uint16Array(bufferOf(array), byteOffsetOf(array), typedArrayLength(array))
}

type ArrayConstructor = new (from: unknown, byteOffset?: number, length?: number) => object

// Numbers of the user as elements of a tensor.

import { type DType, dtypeInfo, isHalf, type TensorBits } from './dtype.js'
import { describeValue, fail, isArray, MemoryLayersError } from './errors.js'
import {
  bitsOf,
  isDetached,
  type TypedArray,
  type TypedArrayName,
  typedArrayLength,
  typedArrayName,
  unsharedArray,
} from './typed-array.js'

/** Numbers that a tensor is made from. */
export type NumericData = TypedArray | readonly number[]

/** Numbers of the user, recognised. */
export interface Numbers {
  /** Which typed array; undefined: a plain array. */
  readonly kind: TypedArrayName | undefined
  /** How many. */
  readonly length: number
  readonly values: ArrayLike<number>
}

/** Elements of a tensor, or what the device converts to them. */
export interface Encoded {
  readonly elements: TensorBits
  /** float32 where the device rounds to a 16-bit dtype, else the dtype itself. */
  readonly dtype: DType
}

/** Whether this is a typed array of numbers or an array: not a DataView, nor of 64-bit integers. */
export function isNumericData(data: unknown): data is NumericData {
  const kind = typedArrayName(data)
  return kind === undefined ? isArray(data) : !kind.startsWith('Big')
}

/**
 * Recognises the data of one call. Typed arrays are read as they are at the call; one over a
 * SharedArrayBuffer is copied first.
 * @throws ERR_DTYPE for what is neither a typed array of numbers nor an array; ERR_VALUE for a
 * typed array without its memory
 */
export function readNumbers(where: string, argument: string, data: unknown): Numbers {
  const kind = typedArrayName(data)
  if (kind?.startsWith('Big')) {
    const hint = 'Convert 64-bit integers with Number() first.'
    fail('ERR_DTYPE', where, argument, 'hold numbers', data, hint)
  }
  if (kind !== undefined) {
    if (isDetached(data as object)) {
      const hint = 'Its buffer was transferred (postMessage, structuredClone) or shrunk.'
      fail('ERR_VALUE', where, argument, 'have its memory', `a detached ${kind}`, hint)
    }
    const values = unsharedArray(data as object) as ArrayLike<number>
    return { kind, length: typedArrayLength(values), values }
  }
  if (!isArray(data))
    fail('ERR_DTYPE', where, argument, 'be a typed array or an array of numbers', data)
  const values = data as readonly number[]
  const { length } = values
  // a Proxy may give anything
  if (!Number.isInteger(length) || length < 0 || length >= 2 ** 32)
    fail('ERR_DTYPE', where, argument, 'have the length of an array', describeValue(length))
  return { kind, length, values }
}

const ownDTypes: Partial<Record<TypedArrayName, DType>> = {
  Int32Array: 'int32',
  Int8Array: 'int8',
  Uint8Array: 'uint8',
  Uint8ClampedArray: 'uint8',
  Float16Array: 'float16',
}

/** The dtype of data for which the caller names none. */
export function defaultDType({ kind }: Numbers): DType {
  return (kind && ownDTypes[kind]) ?? 'float32'
}

/**
 * Numbers as elements of `dtype`; or, where they have to be rounded to 16 bits, as float32 numbers
 * that round to the same.
 * @throws ERR_DTYPE, ERR_VALUE, ERR_OUT_OF_MEMORY
 */
export function encodeNumbers(
  where: string,
  argument: string,
  numbers: Numbers,
  dtype: DType,
): Encoded {
  const { kind, values } = numbers
  if (isHalf(dtype)) {
    if (kind === 'Uint16Array') return { elements: values as Uint16Array, dtype }
    if (kind === 'Float32Array') return { elements: values as Float32Array, dtype: 'float32' }
    if (kind === 'Float16Array' && dtype === 'float16') return { elements: bitsOf(values), dtype }
    return { elements: toFloat32(where, argument, numbers, true), dtype: 'float32' }
  }
  if (kind === 'Uint16Array' && dtype === 'float32') {
    const requirement = 'be float16 or bfloat16 for a Uint16Array, which holds bits'
    fail('ERR_DTYPE', where, 'dtype', requirement, dtype)
  }
  const { array, range } = dtypeInfo(dtype)
  if (kind === array.name) return { elements: values as TensorBits, dtype }
  if (!range) return { elements: toFloat32(where, argument, numbers, false), dtype }
  return { elements: toIntegers(where, argument, numbers, dtype, range), dtype }
}

/** Which numbers are indices: those in `[0, limit)` and those that are `ignored`. */
export interface IndexRule {
  limit: number
  /** What a message calls the limit. Default: the number. */
  limitName?: string
  ignored: readonly number[]
  /** The second line of the message for an index that is none. */
  hint(index: unknown): string
}

/**
 * Numbers as int32 indices.
 * @throws ERR_INDEX_RANGE for the first that is none by the rule, ERR_OUT_OF_MEMORY
 */
export function encodeIndices(
  where: string,
  argument: string,
  { kind, length, values }: Numbers,
  { limit, limitName = String(limit), ignored, hint }: IndexRule,
): Int32Array {
  const own = kind === 'Int32Array'
  const indices = own ? (values as Int32Array) : allocate(where, argument, Int32Array, length)
  for (let i = 0; i < length; i++) {
    const index: unknown = values[i]
    if (!isInteger(index) || ((index < 0 || index >= limit) && !ignored.includes(index))) {
      const found = `"${argument}"[${i}] is ${describeValue(index)}`
      const message = `${where}: ${found}, outside [0, ${limitName}).\n  ${hint(index)}`
      throw new MemoryLayersError('ERR_INDEX_RANGE', message)
    }
    if (!own) indices[i] = index
  }
  return indices
}

function isInteger(value: unknown): value is number {
  return Number.isInteger(value)
}

function toIntegers(
  where: string,
  argument: string,
  { length, values }: Numbers,
  dtype: DType,
  { min, max }: { min: number; max: number },
): TensorBits {
  const out = allocate(where, argument, dtypeInfo(dtype).array, length)
  for (let i = 0; i < length; i++) {
    const value: unknown = values[i]
    if (!isInteger(value) || value < min || value > max) {
      const requirement = `be an integer from ${min} to ${max} for ${dtype}`
      fail('ERR_VALUE', where, `${argument}[${i}]`, requirement, describeValue(value))
    }
    out[i] = value
  }
  return out
}

// `toOdd`: a number between two neighbouring float32 numbers becomes the one whose last bit is 1,
// instead of the nearest (Boldo and Melquiond 2008). Rounded once more to the nearest of 16 bits it
// then gives the number of 16 bits that is nearest to the float64.
function toFloat32(
  where: string,
  argument: string,
  { length, values }: Numbers,
  toOdd: boolean,
): Float32Array {
  const out = allocate(where, argument, Float32Array, length)
  const bits = new Uint32Array(out.buffer)
  for (let i = 0; i < length; i++) {
    const value: unknown = values[i]
    if (typeof value !== 'number')
      fail('ERR_VALUE', where, `${argument}[${i}]`, 'be a number', describeValue(value))
    out[i] = value
    if (!toOdd) continue
    const nearest = out[i]!
    if (nearest === value || Number.isNaN(value)) continue
    if (Math.abs(nearest) > Math.abs(value)) bits[i]!--
    bits[i]! |= 1
  }
  return out
}

function allocate<T>(
  where: string,
  argument: string,
  array: new (length: number) => T,
  length: number,
): T {
  try {
    return new array(length)
  } catch {
    const message = `${where}: no memory left for a copy of the ${length} numbers of "${argument}".`
    throw new MemoryLayersError('ERR_OUT_OF_MEMORY', message)
  }
}

import { fail } from './errors.js'

/** Element types. float16 and bfloat16 are read and written as their bits, in Uint16Array. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'int32' | 'int8' | 'uint8'

/** Arrays of numbers that tensors are made from. */
export type TypedArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Uint8ClampedArray
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array

/**
 * What `data()` gives: Float32Array, Int32Array, Int8Array, Uint8Array, or Uint16Array with the
 * bits of a 16-bit float.
 */
export type TensorData = Float32Array | Int32Array | Int8Array | Uint8Array | Uint16Array

interface DTypeInfo {
  /** Of one element. */
  bytes: number
  array: {
    new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TensorData
    new (length: number): TensorData
  }
  /** The name of the dtype in safetensors files. */
  safetensors: string
  /** Smallest and largest value of an integer dtype. */
  range?: { min: number; max: number }
}

// In the order of native/core/dtype.h.
const infos: Record<DType, DTypeInfo> = {
  float32: { bytes: 4, array: Float32Array, safetensors: 'F32' },
  float16: { bytes: 2, array: Uint16Array, safetensors: 'F16' },
  bfloat16: { bytes: 2, array: Uint16Array, safetensors: 'BF16' },
  int32: {
    bytes: 4,
    array: Int32Array,
    safetensors: 'I32',
    range: { min: -(2 ** 31), max: 2 ** 31 - 1 },
  },
  int8: { bytes: 1, array: Int8Array, safetensors: 'I8', range: { min: -128, max: 127 } },
  uint8: { bytes: 1, array: Uint8Array, safetensors: 'U8', range: { min: 0, max: 255 } },
}

export const dtypes = Object.keys(infos) as readonly DType[]

export function dtypeInfo(dtype: DType): DTypeInfo {
  return infos[dtype]
}

/** The number by which native code knows a dtype. */
export function dtypeCode(where: string, dtype: DType): number {
  const code = dtypes.indexOf(dtype)
  if (code < 0) fail('ERR_DTYPE', where, 'dtype', `be one of ${dtypes.join(', ')}`, dtype)
  return code
}

/** The dtype of a code of native code. */
export function dtypeOfCode(code: number): DType {
  const dtype = dtypes[code]
  if (!dtype) throw new RangeError(`no dtype has the code ${code}`)
  return dtype
}

/** Whether this is a 16-bit float. */
export function isHalf(dtype: DType): boolean {
  return dtype === 'float16' || dtype === 'bfloat16'
}

/** Whether a copy from one dtype to the other is possible: the same dtype, or both are floats. */
export function convertible(from: DType, to: DType): boolean {
  const float = (dtype: DType) => dtype === 'float32' || isHalf(dtype)
  return from === to || (float(from) && float(to))
}

// Float16Array, where the runtime has it: its elements are taken as bits.
function isFloat16Array(data: object): boolean {
  return data.constructor.name === 'Float16Array'
}

/** Whether this is a typed array of numbers: not a DataView, not of 64-bit integers. */
export function isTypedArray(data: unknown): data is TypedArray {
  return (
    ArrayBuffer.isView(data) &&
    !(data instanceof DataView) &&
    !(data instanceof BigInt64Array) &&
    !(data instanceof BigUint64Array)
  )
}

/** Throws ERR_DTYPE unless `data` is a typed array or an array. */
export function checkData(where: string, data: unknown): void {
  if (!Array.isArray(data) && (!ArrayBuffer.isView(data) || data instanceof DataView)) {
    fail('ERR_DTYPE', where, 'data', 'be a typed array or an array of numbers', data)
  }
}

/** The dtype of data for which the caller names none. */
export function defaultDType(data: TypedArray | readonly number[]): DType {
  if (data instanceof Int32Array) return 'int32'
  if (data instanceof Int8Array) return 'int8'
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8'
  if (isFloat16Array(data)) return 'float16'
  return 'float32'
}

/**
 * `data` as an array whose bytes are elements of `dtype`; or, for numbers that have to be rounded
 * to 16 bits, as Float32Array (the device rounds).
 * @throws ERR_DTYPE, ERR_VALUE
 */
export function encodeElements(
  where: string,
  data: TypedArray | readonly number[],
  dtype: DType,
): TensorData {
  checkData(where, data)
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    const hint = 'Convert 64-bit integers with Number() first.'
    fail('ERR_DTYPE', where, 'data', 'hold numbers', data, hint)
  }
  if (isHalf(dtype)) return encodeHalf(where, data, dtype)
  if (data instanceof Uint16Array && dtype === 'float32') {
    const requirement = 'be float16 or bfloat16 for a Uint16Array, which holds bits'
    fail('ERR_DTYPE', where, 'dtype', requirement, dtype)
  }
  const { array, range } = infos[dtype]
  if (data instanceof array) return data
  if (!range) return toFloat32(where, data)
  const out = new array(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]
    if (!isInteger(value) || value < range.min || value > range.max) {
      const requirement = `be an integer from ${range.min} to ${range.max} for ${dtype}`
      fail('ERR_VALUE', where, `data[${i}]`, requirement, value)
    }
    out[i] = value
  }
  return out
}

function isInteger(value: unknown): value is number {
  return Number.isInteger(value)
}

function encodeHalf(
  where: string,
  data: TypedArray | readonly number[],
  dtype: DType,
): Float32Array | Uint16Array {
  if (data instanceof Uint16Array || data instanceof Float32Array) return data
  if (ArrayBuffer.isView(data) && isFloat16Array(data)) {
    if (dtype !== 'float16')
      fail('ERR_DTYPE', where, 'dtype', 'be float16 for a Float16Array', dtype)
    return new Uint16Array(data.buffer, data.byteOffset, data.length)
  }
  return toFloat32(where, data)
}

function toFloat32(where: string, data: ArrayLike<number>): Float32Array {
  const out = new Float32Array(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]
    if (typeof value !== 'number') fail('ERR_VALUE', where, `data[${i}]`, 'be a number', value)
    out[i] = value
  }
  return out
}

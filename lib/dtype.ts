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

interface Row {
  bytes: number
  array: new (buffer: ArrayBufferLike, byteOffset?: number, length?: number) => TensorData
  safetensors: string
}

// In the order of native/core/dtype.h.
const table: Record<DType, Row> = {
  float32: { bytes: 4, array: Float32Array, safetensors: 'F32' },
  float16: { bytes: 2, array: Uint16Array, safetensors: 'F16' },
  bfloat16: { bytes: 2, array: Uint16Array, safetensors: 'BF16' },
  int32: { bytes: 4, array: Int32Array, safetensors: 'I32' },
  int8: { bytes: 1, array: Int8Array, safetensors: 'I8' },
  uint8: { bytes: 1, array: Uint8Array, safetensors: 'U8' },
}

export const dtypes = Object.keys(table) as readonly DType[]

export function dtypeRow(dtype: DType): Row {
  return table[dtype]
}

/** The number by which native code knows a dtype. */
export function dtypeCode(where: string, dtype: DType): number {
  const code = dtypes.indexOf(dtype)
  if (code < 0) fail('ERR_DTYPE', where, 'dtype', `be one of ${dtypes.join(', ')}`, dtype)
  return code
}

export function isHalf(dtype: DType): boolean {
  return dtype === 'float16' || dtype === 'bfloat16'
}

/** Whether a copy from one dtype to the other is made: of one dtype, or rounding between floats. */
export function convertible(from: DType, to: DType): boolean {
  const float = (dtype: DType) => dtype === 'float32' || isHalf(dtype)
  return from === to || (float(from) && float(to))
}

/** Float16Array, where the runtime has it: its elements are taken as bits. */
function isFloat16Array(data: object): boolean {
  return data.constructor.name === 'Float16Array'
}

/** A typed array of numbers: not a DataView, not of 64-bit integers. */
export function isTypedArray(data: unknown): data is TypedArray {
  return (
    ArrayBuffer.isView(data) &&
    !(data instanceof DataView) &&
    !(data instanceof BigInt64Array) &&
    !(data instanceof BigUint64Array)
  )
}

/** @internal Throws ERR_DTYPE unless `data` is a view of elements or an array. */
export function expectData(where: string, data: unknown): void {
  if (!Array.isArray(data) && (!ArrayBuffer.isView(data) || data instanceof DataView)) {
    fail('ERR_DTYPE', where, 'data', 'be a typed array or an array of numbers', data)
  }
}

/** The dtype that data has by itself. */
export function naturalDType(data: TypedArray | readonly number[]): DType {
  if (data instanceof Int32Array) return 'int32'
  if (data instanceof Int8Array) return 'int8'
  if (data instanceof Uint8Array || data instanceof Uint8ClampedArray) return 'uint8'
  if (isFloat16Array(data)) return 'float16'
  return 'float32'
}

/**
 * `data` as an array whose bytes are elements of `dtype`; or, for numbers that have to be rounded
 * to 16 bits, as Float32Array (the device rounds). Throws ERR_DTYPE and ERR_VALUE.
 */
export function encode(
  where: string,
  data: TypedArray | readonly number[],
  dtype: DType,
): TensorData {
  expectData(where, data)
  const array = data as TypedArray
  if (data instanceof BigInt64Array || data instanceof BigUint64Array) {
    fail(
      'ERR_DTYPE',
      where,
      'data',
      'hold numbers',
      data,
      'Convert 64-bit integers with Number() first.',
    )
  }
  if (isHalf(dtype)) {
    if (data instanceof Uint16Array) return data
    if (isFloat16Array(data)) {
      if (dtype !== 'float16')
        fail('ERR_DTYPE', where, 'dtype', 'be float16 for a Float16Array', dtype)
      return new Uint16Array(array.buffer, array.byteOffset, array.length)
    }
    return data instanceof Float32Array ? data : numbers(where, data as readonly number[])
  }
  if (data instanceof Uint16Array && dtype === 'float32') {
    fail(
      'ERR_DTYPE',
      where,
      'dtype',
      'be float16 or bfloat16 for a Uint16Array, which holds bits',
      dtype,
    )
  }
  const wanted = table[dtype].array
  if (data instanceof wanted) return data
  if (dtype === 'float32') return numbers(where, data as readonly number[])
  return integers(where, data as readonly number[], dtype)
}

function numbers(where: string, data: ArrayLike<number>): Float32Array {
  const out = new Float32Array(data.length)
  for (let i = 0; i < data.length; i++) {
    if (typeof data[i] !== 'number') fail('ERR_VALUE', where, `data[${i}]`, 'be a number', data[i])
    out[i] = data[i]!
  }
  return out
}

const ranges: Partial<Record<DType, readonly [number, number]>> = {
  int32: [-(2 ** 31), 2 ** 31 - 1],
  int8: [-128, 127],
  uint8: [0, 255],
}

function integers(where: string, data: ArrayLike<number>, dtype: DType): TensorData {
  const [low, high] = ranges[dtype]!
  const out = new (table[dtype].array as unknown as new (n: number) => Int32Array)(data.length)
  for (let i = 0; i < data.length; i++) {
    const value = data[i]!
    if (!Number.isInteger(value) || value < low || value > high) {
      fail(
        'ERR_VALUE',
        where,
        `data[${i}]`,
        `be an integer from ${low} to ${high} for ${dtype}`,
        value,
      )
    }
    out[i] = value
  }
  return out
}

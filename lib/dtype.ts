import { fail } from './errors.js'
import type { Float16Data } from './typed-array.js'

/** Element types. */
export type DType = 'float32' | 'float16' | 'bfloat16' | 'int32' | 'int8' | 'uint8'

interface ElementArrays {
  float32: Float32Array
  float16: Uint16Array
  bfloat16: Uint16Array
  int32: Int32Array
  int8: Int8Array
  uint8: Uint8Array
}

/** What `bits()` gives, by dtype: the elements as they are, 16-bit floats as Uint16Array. */
export type TensorBits<D extends DType = DType> = ElementArrays[D]

/** What `data()` gives, by dtype: the elements as numbers, every float as Float32Array. */
export type TensorData<D extends DType = DType> = D extends 'float16' | 'bfloat16'
  ? Float32Array
  : ElementArrays[D]

/** The dtype that a tensor gets from its data where none is named. */
export type DTypeOfData<T> = T extends Int32Array
  ? 'int32'
  : T extends Int8Array
    ? 'int8'
    : T extends Uint8Array | Uint8ClampedArray
      ? 'uint8'
      : T extends Float16Data
        ? 'float16'
        : 'float32'

interface DTypeInfo {
  /** Of one element. */
  bytes: number
  /** Of its raw elements. */
  array: {
    new (buffer: ArrayBufferLike, byteOffset?: number, length?: number): TensorBits
    new (length: number): TensorBits
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
export function isHalf(dtype: DType): dtype is 'float16' | 'bfloat16' {
  return dtype === 'float16' || dtype === 'bfloat16'
}

/** Whether a copy from one dtype to the other is possible: the same dtype, or both are floats. */
export function convertible(from: DType, to: DType): boolean {
  const float = (dtype: DType) => dtype === 'float32' || isHalf(dtype)
  return from === to || (float(from) && float(to))
}

/** The dtype in which elements are numbers of JavaScript. */
export function numberDType(dtype: DType): DType {
  return isHalf(dtype) ? 'float32' : dtype
}

/** The typed array of a dtype over bytes. */
export function typedArray<T extends TensorBits | TensorData>(
  dtype: DType,
  buffer: ArrayBuffer,
): T {
  return new (dtypeInfo(dtype).array)(buffer) as T
}

import { disposeOnError } from './atomically.js'
import { native, type TensorHandle } from './binding.js'
import type { Device } from './device.js'
import { failMismatch } from './device-mismatch.js'
import {
  convertible,
  type DType,
  dtypeCode,
  dtypeInfo,
  dtypeOfCode,
  isHalf,
  type TensorBits,
  type TensorData,
} from './dtype.js'
import { type Encoded, encodeNumbers, type NumericData, readNumbers } from './encode.js'
import { fail, MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { noteTensor } from './made-tensors.js'
import { checkInteger } from './options.js'
import { checkShape, countElements, formatShape } from './shape.js'

export { formatShape } from './shape.js'

/**
 * A dense, row-major array on a device. Calls that use it enqueue work and return at once; only
 * `data()`, `dataSync()` and `device.synchronize()` wait. Made by a {@link Device}'s factories and
 * by operations.
 * @typeParam D its dtype, where the compiler knows it
 */
export class Tensor<D extends DType = DType> {
  /** Sizes of the axes. */
  readonly shape: readonly number[]
  /** The elements' type. */
  readonly dtype: D
  /** Where the memory is. */
  readonly device: Device
  /** Number of elements. */
  readonly size: number
  #handle: TensorHandle | undefined

  /** @internal Tensors are made by devices and operations. */
  constructor(device: Device, handle: TensorHandle) {
    this.device = device
    this.#handle = handle
    this.shape = Object.freeze(handle.shape)
    this.dtype = dtypeOfCode(handle.dtype) as D
    this.size = countElements(this.shape)
    noteTensor(this)
  }

  /** Bytes of the elements. */
  get byteLength(): number {
    return this.size * dtypeInfo(this.dtype).bytes
  }

  /** Whether `dispose()` was called. */
  get disposed(): boolean {
    return this.#handle === undefined
  }

  /** @internal The native handle; throws ERR_DISPOSED after `dispose()`. */
  handle(where: string, argument: string): TensorHandle {
    if (this.#handle === undefined) {
      const tensor = `"${argument}" is a tensor ${formatShape(this.shape)} that was disposed`
      const hint = 'Use it before dispose(), or keep it outside the `using` block that disposes it.'
      throw new MemoryLayersError('ERR_DISPOSED', `${where}: ${tensor}.\n  ${hint}`)
    }
    return this.#handle
  }

  /** @internal Whether this is a tensor, and no Proxy of one. */
  static is(value: unknown): value is Tensor {
    return typeof value === 'object' && value !== null && #handle in value
  }

  /**
   * The elements as numbers, in a fresh typed array: Float32Array for float32, float16 and
   * bfloat16, Int32Array, Int8Array, Uint8Array. Waits without blocking the event loop. Rejects
   * with the fault that this tensor depends on (ERR_INDEX_RANGE, …), each time it is read.
   */
  async data(): Promise<TensorData<D>> {
    return typedArray(numberDType(this.dtype), await this.#read('Tensor.data', native.tensorRead))
  }

  /** The same as {@link Tensor.data}, blocking the thread: for synchronous bridges. */
  dataSync(): TensorData<D> {
    return typedArray(numberDType(this.dtype), this.#read('Tensor.dataSync', native.tensorReadSync))
  }

  /**
   * The raw elements, in a fresh typed array: Uint16Array with the bits of float16 and bfloat16,
   * else the array of {@link Tensor.data}. Waits and rejects as that does.
   */
  async bits(): Promise<TensorBits<D>> {
    return typedArray(this.dtype, await native.tensorRead(this.handle('Tensor.bits', 'this')))
  }

  // 16-bit floats are read through a float32 copy.
  #read<T>(where: string, read: (tensor: TensorHandle) => T): T {
    const handle = this.handle(where, 'this')
    if (!isHalf(this.dtype)) return read(handle)
    const float32 = dtypeCode(where, 'float32')
    const decoded = native.tensorEmpty(this.device.handle, this.shape, float32, where)
    try {
      native.tensorCopy(decoded, handle)
      return read(decoded)
    } finally {
      native.tensorDispose(decoded)
    }
  }

  /**
   * Overwrites all elements, converting as {@link Device.tensor} does. `data` may be reused when
   * the call returns.
   * @throws ERR_SHAPE if the number of elements differs, ERR_DTYPE, ERR_VALUE
   */
  write(data: NumericData): this {
    const where = 'Tensor.write'
    const handle = this.handle(where, 'this')
    const numbers = readNumbers(where, 'data', data)
    if (numbers.length !== this.size) {
      const requirement = `have ${this.size} elements for shape ${formatShape(this.shape)}`
      fail('ERR_SHAPE', where, 'data', requirement, String(numbers.length))
    }
    const encoded = encodeNumbers(where, 'data', numbers, this.dtype)
    if (encoded.dtype === this.dtype) {
      native.tensorWrite(handle, 0, encoded.elements)
    } else {
      const exact = upload(where, this.device, encoded, this.shape)
      try {
        native.tensorCopy(handle, exact)
      } finally {
        native.tensorDispose(exact)
      }
    }
    return this
  }

  /**
   * Overwrites all elements with those of another tensor of the same shape, rounding between float
   * dtypes.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DEVICE_MISMATCH; ERR_VALUE for one that overlaps this tensor
   * and is not the same
   */
  copyFrom(other: Tensor): this {
    const where = 'Tensor.copyFrom'
    const target = this.handle(where, 'this')
    const source = tensorHandle(where, 'other', other, this.device)
    const [wanted, found] = [formatShape(this.shape), formatShape(other.shape)]
    if (found !== wanted) fail('ERR_SHAPE', where, 'other', `have shape ${wanted}`, found)
    if (!convertible(other.dtype, this.dtype))
      fail('ERR_DTYPE', where, 'other', `be ${this.dtype}`, other.dtype)
    native.tensorCopy(target, source)
    return this
  }

  /**
   * A copy on another device, or in another float dtype. A new tensor in any case.
   * @throws ERR_DTYPE, ERR_DEVICE, ERR_OUT_OF_MEMORY
   */
  to(device: Device): Tensor<D>
  to<T extends DType>(dtype: T): Tensor<T>
  to(target: Device | DType): Tensor
  to(target: Device | DType): Tensor {
    const where = 'Tensor.to'
    const handle = this.handle(where, 'this')
    if (typeof target === 'string') {
      const code = dtypeCode(where, target)
      if (!convertible(this.dtype, target)) {
        const requirement = `be ${this.dtype}, the tensor's own: floats alone are converted`
        fail('ERR_DTYPE', where, 'dtype', requirement, target)
      }
      return this.#copy(where, handle, this.device, code)
    }
    // device.ts imports this file, so its class is taken from the device at hand.
    if (!(this.device.constructor as typeof Device).is(target))
      fail('ERR_DEVICE', where, 'target', 'be a Device or a dtype', target)
    return this.#copy(where, handle, target, dtypeCode(where, this.dtype))
  }

  #copy(where: string, source: TensorHandle, device: Device, dtype: number): Tensor {
    const target = native.tensorEmpty(device.handle, this.shape, dtype, where)
    return disposeOnError(() => {
      const copy = new Tensor(device, target)
      const transfer = device === this.device ? native.tensorCopy : native.tensorTransfer
      transfer(target, source)
      return copy
    })
  }

  /**
   * The same memory under another shape of as many elements. Lives on when this tensor is disposed.
   * @throws ERR_SHAPE
   */
  reshape(shape: readonly number[]): Tensor<D> {
    const where = 'Tensor.reshape'
    const handle = this.handle(where, 'this')
    const sizes = checkShape(where, shape)
    if (countElements(sizes) !== this.size) {
      const requirement = `have ${this.size} elements as ${formatShape(this.shape)} has`
      fail('ERR_SHAPE', where, 'shape', requirement, formatShape(sizes))
    }
    return new Tensor(this.device, native.tensorView(handle, 0, sizes))
  }

  /**
   * Rows `begin` … `end - 1` of the first axis, in the same memory. Lives on when this tensor is
   * disposed.
   * @throws ERR_VALUE for a range outside the tensor
   */
  rows(begin: number, end: number): Tensor<D> {
    const where = 'Tensor.rows'
    const handle = this.handle(where, 'this')
    const [count, ...rowShape] = this.shape
    if (count === undefined) fail('ERR_SHAPE', where, 'this', 'have at least one axis', '[]')
    checkInteger(where, 'end', end, 0, count)
    checkInteger(where, 'begin', begin, 0, end)
    const rowSize = countElements(rowShape)
    const view = native.tensorView(handle, begin * rowSize, [end - begin, ...rowShape])
    return new Tensor(this.device, view)
  }

  /**
   * Frees the memory once the work that uses it has run. Any later use throws ERR_DISPOSED; a
   * second call does nothing.
   */
  dispose(): void {
    if (this.#handle) native.tensorDispose(this.#handle)
    this.#handle = undefined
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** Dtype, shape and device: `Tensor float32 [4, 32] on cpu`. */
  toString(): string {
    const disposed = this.disposed ? ', disposed' : ''
    return `Tensor ${this.dtype} ${formatShape(this.shape)} on ${this.device.name}${disposed}`
  }

  /** @internal */
  [inspect](): string {
    return this.toString()
  }
}

/** The dtype in which elements are numbers of JavaScript. */
function numberDType(dtype: DType): DType {
  return isHalf(dtype) ? 'float32' : dtype
}

function typedArray<T extends TensorBits | TensorData>(dtype: DType, buffer: ArrayBuffer): T {
  return new (dtypeInfo(dtype).array)(buffer) as T
}

/** A new tensor's handle, of the dtype that the elements have. */
export function upload(
  where: string,
  device: Device,
  { elements, dtype }: Encoded,
  shape: readonly number[],
): TensorHandle {
  return native.tensorFrom(device.handle, elements, shape, dtypeCode(where, dtype))
}

/** The native handle of an argument: a tensor, alive, and on `device` if one is given. */
export function tensorHandle(
  where: string,
  name: string,
  tensor: Tensor,
  device?: Device,
): TensorHandle {
  if (!Tensor.is(tensor)) {
    const hint = 'Make one with device.tensor(data, shape).'
    fail('ERR_DTYPE', where, name, 'be a Tensor', tensor, hint)
  }
  const handle = tensor.handle(where, name)
  if (device && tensor.device !== device) failMismatch(where, name, device, tensor.device)
  return handle
}

/** {@link tensorHandle} of an argument that may be left out. */
export function optionalTensorHandle(
  where: string,
  name: string,
  tensor: Tensor | undefined,
  device: Device,
): TensorHandle | undefined {
  return tensor === undefined ? undefined : tensorHandle(where, name, tensor, device)
}

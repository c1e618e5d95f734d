import { native, type TensorHandle } from './binding.js'
import type { Device } from './device.js'
import {
  convertible,
  type DType,
  dtypeCode,
  dtypeInfo,
  dtypeOfCode,
  encodeElements,
  isHalf,
  type TensorData,
  type TypedArray,
} from './dtype.js'
import { describeValue, fail, MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { checkInteger } from './options.js'

/**
 * A dense, row-major array on a device. Calls that use it enqueue work and return at once; only
 * `data()`, `dataSync()` and `device.synchronize()` wait. Made by a {@link Device}'s factories and
 * by operations.
 */
export class Tensor {
  /** Sizes of the axes. */
  readonly shape: readonly number[]
  /** The elements' type. */
  readonly dtype: DType
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
    this.dtype = dtypeOfCode(handle.dtype)
    this.size = this.shape.reduce((a, b) => a * b, 1)
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

  /**
   * The elements, in a fresh typed array: Float32Array, Int32Array, Int8Array, Uint8Array, or
   * Uint16Array with the bits of float16 and bfloat16. Waits without blocking the event loop.
   * Rejects with the fault of any work before it (ERR_INDEX_RANGE, …).
   * @typeParam T the array of this dtype, where the compiler should know it: `data<Int32Array>()`
   */
  async data<T extends TensorData = Float32Array>(): Promise<T> {
    const buffer = await native.tensorRead(this.handle('Tensor.data', 'this'))
    return new (dtypeInfo(this.dtype).array)(buffer) as T
  }

  /** The same as {@link Tensor.data}, blocking the thread: for synchronous bridges. */
  dataSync<T extends TensorData = Float32Array>(): T {
    const buffer = native.tensorReadSync(this.handle('Tensor.dataSync', 'this'))
    return new (dtypeInfo(this.dtype).array)(buffer) as T
  }

  /**
   * Overwrites all elements, converting as {@link Device.tensor} does. `data` may be reused when
   * the call returns.
   * @throws ERR_SHAPE if the number of elements differs, ERR_DTYPE, ERR_VALUE
   */
  write(data: TypedArray | readonly number[]): this {
    const where = 'Tensor.write'
    const handle = this.handle(where, 'this')
    const encoded = encodeElements(where, data, this.dtype)
    if (encoded.length !== this.size) {
      const requirement = `have ${this.size} elements for shape ${formatShape(this.shape)}`
      fail('ERR_SHAPE', where, 'data', requirement, String(encoded.length))
    }
    if (isHalf(this.dtype) && encoded instanceof Float32Array) {
      const float32 = dtypeCode(where, 'float32')
      const exact = native.tensorFrom(this.device.handle, encoded, this.shape, float32)
      native.tensorCopy(handle, exact)
      native.tensorDispose(exact)
    } else {
      native.tensorWrite(handle, 0, encoded)
    }
    return this
  }

  /**
   * Overwrites all elements with those of another tensor of the same shape, rounding between float
   * dtypes.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_DEVICE_MISMATCH
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
  to(target: Device | DType): Tensor {
    const where = 'Tensor.to'
    const handle = this.handle(where, 'this')
    if (typeof target === 'string') {
      const code = dtypeCode(where, target)
      if (!convertible(this.dtype, target)) {
        const requirement = `be ${this.dtype}, the tensor's own: floats alone are converted`
        fail('ERR_DTYPE', where, 'dtype', requirement, target)
      }
      const converted = native.tensorEmpty(this.device.handle, this.shape, code)
      native.tensorCopy(converted, handle)
      return new Tensor(this.device, converted)
    }
    // device.ts imports this file, so its class is taken from the device at hand.
    if (!(target instanceof this.device.constructor))
      fail('ERR_DEVICE', where, 'target', 'be a Device or a dtype', target)
    const copy = native.tensorEmpty(target.handle, this.shape, dtypeCode(where, this.dtype))
    if (target === this.device) native.tensorCopy(copy, handle)
    else native.tensorTransfer(copy, handle)
    return new Tensor(target, copy)
  }

  /**
   * The same memory under another shape of as many elements. Lives on when this tensor is disposed.
   * @throws ERR_SHAPE
   */
  reshape(shape: readonly number[]): Tensor {
    const where = 'Tensor.reshape'
    const handle = this.handle(where, 'this')
    if (countElements(where, shape) !== this.size) {
      const requirement = `have ${this.size} elements as ${formatShape(this.shape)} has`
      fail('ERR_SHAPE', where, 'shape', requirement, formatShape(shape))
    }
    return new Tensor(this.device, native.tensorView(handle, 0, shape))
  }

  /**
   * Rows `begin` … `end - 1` of the first axis, in the same memory. Lives on when this tensor is
   * disposed.
   * @throws ERR_VALUE for a range outside the tensor
   */
  rows(begin: number, end: number): Tensor {
    const where = 'Tensor.rows'
    const handle = this.handle(where, 'this')
    const [count, ...rowShape] = this.shape
    if (count === undefined) fail('ERR_SHAPE', where, 'this', 'have at least one axis', '[]')
    checkInteger(where, 'end', end, 0, count)
    checkInteger(where, 'begin', begin, 0, end)
    const rowSize = rowShape.reduce((a, b) => a * b, 1)
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

/** A shape in messages: `[4, 32]`. */
export function formatShape(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** The number of elements of a shape that the user gave. @throws ERR_SHAPE */
export function countElements(where: string, shape: readonly number[]): number {
  if (!Array.isArray(shape)) fail('ERR_SHAPE', where, 'shape', 'be an array of sizes', shape)
  if (shape.length > 6)
    fail('ERR_SHAPE', where, 'shape', 'have at most 6 axes', String(shape.length))
  let count = 1
  for (const [axis, size] of shape.entries()) {
    if (!Number.isInteger(size) || size < 0)
      fail('ERR_SHAPE', where, `shape[${axis}]`, 'be an integer from 0', describeValue(size))
    count *= size
  }
  if (count > 2 ** 50)
    fail('ERR_SHAPE', where, 'shape', 'have at most 2^50 elements', formatShape(shape))
  return count
}

/** The native handle of an argument: a tensor, alive, and on `device` if one is given. */
export function tensorHandle(
  where: string,
  name: string,
  tensor: Tensor,
  device?: Device,
): TensorHandle {
  if (!(tensor instanceof Tensor)) {
    const hint = 'Make one with device.tensor(data, shape).'
    fail('ERR_DTYPE', where, name, 'be a Tensor', tensor, hint)
  }
  const handle = tensor.handle(where, name)
  if (device && tensor.device !== device) {
    fail(
      'ERR_DEVICE_MISMATCH',
      where,
      name,
      `be on device "${device.name}"`,
      `a tensor of another device "${tensor.device.name}"`,
      `Move it with ${name}.to(device).`,
    )
  }
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

/**
 * Overwrites `target` with `source`, which may be on another device, of another float dtype, or of
 * another shape with as many elements.
 */
export function overwrite(target: Tensor, source: Tensor): void {
  const moved = source.device === target.device ? undefined : source.to(target.device)
  const view = (moved ?? source).reshape(target.shape)
  native.tensorCopy(target.handle('copy', 'target'), view.handle('copy', 'source'))
  view.dispose()
  moved?.dispose()
}

import { native, type TensorHandle } from './binding.js'
import type { Device } from './device.js'
import {
  convertible,
  type DType,
  dtypeCode,
  dtypeRow,
  dtypes,
  encode,
  isHalf,
  type TensorData,
  type TypedArray,
} from './dtype.js'
import { describe, fail, MemoryLayersError } from './errors.js'
import { integer } from './options.js'

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
    this.dtype = dtypes[handle.dtype]!
    this.size = this.shape.reduce((a, b) => a * b, 1)
  }

  /** Bytes of the elements. */
  get byteLength(): number {
    return this.size * dtypeRow(this.dtype).bytes
  }

  /** Whether the memory was given back. */
  get disposed(): boolean {
    return this.#handle === undefined
  }

  /** @internal The native handle; throws ERR_DISPOSED after `dispose()`. */
  handle(where: string, argument: string): TensorHandle {
    if (this.#handle === undefined) {
      throw new MemoryLayersError(
        'ERR_DISPOSED',
        `${where}: "${argument}" is a tensor ${text(this.shape)} that was disposed.\n  Use it before dispose(), or keep it outside the \`using\` block that ends its life.`,
      )
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
    return new (dtypeRow(this.dtype).array)(buffer) as T
  }

  /** The same as {@link Tensor.data}, blocking the thread: for synchronous bridges. */
  dataSync<T extends TensorData = Float32Array>(): T {
    return new (dtypeRow(this.dtype).array)(
      native.tensorReadSync(this.handle('Tensor.dataSync', 'this')),
    ) as T
  }

  /**
   * Overwrites all elements, converting as {@link Device.tensor} does. `data` may be reused when
   * the call returns.
   * @throws ERR_SHAPE if the number of elements differs, ERR_DTYPE, ERR_VALUE
   */
  write(data: TypedArray | readonly number[]): this {
    const handle = this.handle('Tensor.write', 'this')
    const encoded = encode('Tensor.write', data, this.dtype)
    if (encoded.length !== this.size) {
      fail(
        'ERR_SHAPE',
        'Tensor.write',
        'data',
        `have ${this.size} elements for shape ${text(this.shape)}`,
        String(encoded.length),
      )
    }
    if (isHalf(this.dtype) && encoded instanceof Float32Array) {
      const rounded = native.tensorFrom(
        this.device.handle,
        encoded,
        this.shape,
        dtypeCode('Tensor.write', 'float32'),
      )
      native.tensorCopy(handle, rounded)
      native.tensorDispose(rounded)
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
    const to = this.handle(where, 'this')
    const [from] = handles(where, { other }, this.device)
    if (text(other.shape) !== text(this.shape))
      fail('ERR_SHAPE', where, 'other', `have shape ${text(this.shape)}`, text(other.shape))
    if (!convertible(other.dtype, this.dtype))
      fail('ERR_DTYPE', where, 'other', `be ${this.dtype}`, other.dtype)
    native.tensorCopy(to, from!)
    return this
  }

  /**
   * A copy on another device, or in another float dtype. A new tensor in any case. @throws
   * ERR_DTYPE, ERR_DEVICE, ERR_OUT_OF_MEMORY
   */
  to(target: Device | DType): Tensor {
    const handle = this.handle('Tensor.to', 'this')
    if (typeof target === 'string') {
      const code = dtypeCode('Tensor.to', target)
      if (!convertible(this.dtype, target)) {
        fail(
          'ERR_DTYPE',
          'Tensor.to',
          'dtype',
          `be ${this.dtype}, the tensor's own: floats alone are converted`,
          target,
        )
      }
      const copy = native.tensorEmpty(this.device.handle, this.shape, code)
      native.tensorCopy(copy, handle)
      return new Tensor(this.device, copy)
    }
    // Device is a type here, so its class is taken from the device at hand.
    if (!(target instanceof this.device.constructor))
      fail('ERR_DEVICE', 'Tensor.to', 'target', 'be a Device or a dtype', target)
    const copy = native.tensorEmpty(target.handle, this.shape, dtypeCode('Tensor.to', this.dtype))
    if (target === this.device) native.tensorCopy(copy, handle)
    else native.tensorTransfer(copy, handle)
    return new Tensor(target, copy)
  }

  /**
   * The same memory under another shape of as many elements. Lives on when this tensor is disposed.
   * @throws ERR_SHAPE
   */
  reshape(shape: readonly number[]): Tensor {
    const handle = this.handle('Tensor.reshape', 'this')
    if (elements('Tensor.reshape', shape) !== this.size) {
      fail(
        'ERR_SHAPE',
        'Tensor.reshape',
        'shape',
        `have ${this.size} elements as ${text(this.shape)} has`,
        text(shape),
      )
    }
    return new Tensor(this.device, native.tensorView(handle, 0, shape))
  }

  /**
   * Rows `begin` … `end - 1` of the first axis, in the same memory. Lives on when this tensor is
   * disposed.
   * @throws ERR_VALUE for a range outside the tensor
   */
  rows(begin: number, end: number): Tensor {
    const handle = this.handle('Tensor.rows', 'this')
    if (this.shape.length === 0)
      fail('ERR_SHAPE', 'Tensor.rows', 'this', 'have at least one axis', '[]')
    integer('Tensor.rows', 'end', end, 0, this.shape[0])
    integer('Tensor.rows', 'begin', begin, 0, end)
    const width = this.shape.slice(1).reduce((a, b) => a * b, 1)
    return new Tensor(
      this.device,
      native.tensorView(handle, begin * width, [end - begin, ...this.shape.slice(1)]),
    )
  }

  /**
   * Gives the memory back, in order behind the work that uses it. Any later use throws
   * ERR_DISPOSED; a second call does nothing.
   */
  dispose(): void {
    if (this.#handle) native.tensorDispose(this.#handle)
    this.#handle = undefined
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }

  /** For people: dtype, shape and device. */
  toString(): string {
    return `Tensor ${this.dtype} ${text(this.shape)} on ${this.device.name}${this.disposed ? ', disposed' : ''}`
  }
}

/** A shape in messages: `[4, 32]`. */
export function text(shape: readonly number[]): string {
  return `[${shape.join(', ')}]`
}

/** The number of elements of a shape the user gave. */
export function elements(where: string, shape: readonly number[]): number {
  if (!Array.isArray(shape)) fail('ERR_SHAPE', where, 'shape', 'be an array of sizes', shape)
  if (shape.length > 6)
    fail('ERR_SHAPE', where, 'shape', 'have at most 6 axes', String(shape.length))
  let size = 1
  for (const [i, d] of shape.entries()) {
    if (!Number.isInteger(d) || d < 0)
      fail('ERR_SHAPE', where, `shape[${i}]`, 'be an integer from 0', describe(d))
    size *= d
  }
  if (size > 2 ** 50) fail('ERR_SHAPE', where, 'shape', 'have at most 2^50 elements', text(shape))
  return size
}

/**
 * The native handles of tensors that must all be tensors, alive, and on one device (`device`, if
 * given).
 */
export function handles(
  where: string,
  tensors: Record<string, Tensor>,
  device?: Device,
): TensorHandle[] {
  let first = device
  return Object.entries(tensors).map(([name, tensor]) => {
    if (!(tensor instanceof Tensor)) {
      fail(
        'ERR_DTYPE',
        where,
        name,
        'be a Tensor',
        tensor,
        'Make one with device.tensor(data, shape).',
      )
    }
    const handle = tensor.handle(where, name)
    first ??= tensor.device
    if (tensor.device !== first) {
      fail(
        'ERR_DEVICE_MISMATCH',
        where,
        name,
        `be on device "${first.name}"`,
        `a tensor of another device "${tensor.device.name}"`,
        `Move it with ${name}.to(device).`,
      )
    }
    return handle
  })
}

export function optionalHandle(
  where: string,
  name: string,
  tensor: Tensor | undefined,
  device: Device,
): TensorHandle | undefined {
  return tensor === undefined ? undefined : handles(where, { [name]: tensor }, device)[0]
}

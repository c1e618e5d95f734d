import { disposeOnError } from './atomically.js'
import { runBackward } from './autograd/backward.js'
import { recorded } from './autograd/record.js'
import { isRecording } from './autograd/recording.js'
import { native, type TensorHandle } from './binding.js'
import { refuseInCapture } from './capturing.js'
import type { Device } from './device.js'
import {
  convertible,
  type DType,
  dtypeCode,
  dtypeInfo,
  dtypeOfCode,
  isHalf,
  numberDType,
  type TensorBits,
  type TensorData,
  typedArray,
} from './dtype.js'
import { encodeNumbers, type NumericData, readNumbers } from './encode.js'
import { fail } from './errors.js'
import { inspect } from './inspect.js'
import { noteTensor } from './made-tensors.js'
import { checkInteger } from './options.js'
import { checkShape, countElements, formatShape } from './shape.js'
import { tensorHandle } from './tensor-arguments.js'
import { TensorMemory } from './tensor-memory.js'
import { upload } from './upload.js'

export { formatShape } from './shape.js'
export { optionalTensorHandle, tensorHandle } from './tensor-arguments.js'

/**
 * A dense, row-major array on a device. Calls that use it enqueue work and return at once; only
 * `data()`, `dataSync()` and `device.synchronize()` wait. Made by a {@link Device}'s factories and
 * by operations.
 * @typeParam D its dtype, where the compiler knows it
 */
export class Tensor<D extends DType = DType> extends TensorMemory {
  /** Sizes of the axes. */
  readonly shape: readonly number[]
  /** The elements' type. */
  readonly dtype: D
  /** Where the memory is. */
  readonly device: Device
  /** Number of elements. */
  readonly size: number

  /** @internal Tensors are made by devices and operations. */
  constructor(device: Device, handle: TensorHandle) {
    super(handle)
    this.device = device
    this.shape = Object.freeze(handle.shape)
    this.dtype = dtypeOfCode(handle.dtype) as D
    this.size = countElements(this.shape)
    noteTensor(this)
  }

  /** Bytes of the elements. */
  get byteLength(): number {
    return this.size * dtypeInfo(this.dtype).bytes
  }

  /** @internal Whether this is a tensor, and no Proxy of one. */
  static is(value: unknown): value is Tensor {
    return TensorMemory.isTensor(value)
  }

  /**
   * Adds the gradients of all that this tensor was computed from: to the parameters' `grad`, to
   * {@link Tensor.grad}, to the tables' queues of reads. All or nothing. The graph is spent; what
   * was recorded on the way is disposed, but this tensor, tensors with a gradient of their own and
   * those given to `keep`.
   * @param dy its gradient, float32 in this shape; may be left out where there is one element: one
   * @throws ERR_CONTEXT where nothing was recorded, where the graph was spent, and where something
   * that backward reads was written since; ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED; ERR_UNSUPPORTED for
   * gradients of gradients
   */
  backward(dy?: Tensor): void {
    const where = 'Tensor.backward'
    this.handle(where, 'this')
    if (dy !== undefined) tensorHandle(where, 'dy', dy, this.device)
    runBackward(this, dy)
  }

  /**
   * The elements as numbers, in a fresh typed array: Float32Array for float32, float16 and
   * bfloat16, Int32Array, Int8Array, Uint8Array. Waits without blocking the event loop. Rejects
   * with the fault that this tensor depends on (ERR_INDEX_RANGE, …), each time it is read.
   */
  data(): Promise<TensorData<D>> {
    refuseInCapture('Tensor.data', this.device)
    return this.#readData()
  }

  async #readData(where = 'Tensor.data'): Promise<TensorData<D>> {
    return typedArray(numberDType(this.dtype), await this.#read(where, native.tensorRead))
  }

  /** The same as {@link Tensor.data}, blocking the thread: for synchronous bridges. */
  dataSync(): TensorData<D> {
    refuseInCapture('Tensor.dataSync', this.device)
    return typedArray(numberDType(this.dtype), this.#read('Tensor.dataSync', native.tensorReadSync))
  }

  /**
   * The raw elements, in a fresh typed array: Uint16Array with the bits of float16 and bfloat16,
   * else the array of {@link Tensor.data}. Waits and rejects as that does.
   */
  bits(): Promise<TensorBits<D>> {
    refuseInCapture('Tensor.bits', this.device)
    return this.#readBits()
  }

  async #readBits(where = 'Tensor.bits'): Promise<TensorBits<D>> {
    return typedArray(this.dtype, await native.tensorRead(this.handle(where, 'this'), where))
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
    refuseInCapture(where, this.device)
    const numbers = readNumbers(where, 'data', data)
    if (numbers.length !== this.size) {
      const requirement = `have ${this.size} elements for shape ${formatShape(this.shape)}`
      fail('ERR_SHAPE', where, 'data', requirement, String(numbers.length))
    }
    const encoded = encodeNumbers(where, 'data', numbers, this.dtype)
    const handle = this.handle(where, 'this')
    if (encoded.dtype === this.dtype) {
      native.tensorWrite(handle, 0, encoded.elements)
      return this
    }
    const exact = upload(where, this.device, encoded, this.shape)
    try {
      native.tensorCopy(handle, exact)
    } finally {
      native.tensorDispose(exact)
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
   * A copy on another device, or in another float dtype. A new tensor in any case. Gradients do not
   * go from device to device: a copy on another one requires none.
   * @throws ERR_DTYPE, ERR_DEVICE, ERR_OUT_OF_MEMORY; ERR_UNSUPPORTED for a recorded result that
   * goes to another device
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
      return this.#recordCopy(where, () => this.#copy(where, handle, this.device, code))
    }
    // device.ts imports this file, so its class is taken from the device at hand.
    if (!(this.device.constructor as typeof Device).is(target))
      fail('ERR_DEVICE', where, 'target', 'be a Device or a dtype', target)
    const code = dtypeCode(where, this.dtype)
    if (target === this.device) return this.to(this.dtype)
    for (const d of [this.device, target]) refuseInCapture(where, d)
    if (isRecording() && this.edge?.node) {
      const hint = 'Run it inside of noGrad() for a copy without a gradient.'
      fail('ERR_UNSUPPORTED', where, 'target', 'be the device of what is recorded', target, hint)
    }
    return this.#copy(where, handle, target, code)
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

  // Gradients are float32 whatever the dtype of their tensor.
  #recordCopy(where: string, copy: () => Tensor): Tensor {
    return recorded(where, { x: this as Tensor }, undefined, copy, () => ({
      saved: {},
      backward: (dy) => ({ x: dy }),
    }))
  }

  /**
   * The same memory under another shape of as many elements. Lives on when this tensor is disposed.
   * @throws ERR_SHAPE
   */
  reshape(shape: readonly number[]): Tensor<D> {
    const where = 'Tensor.reshape'
    const sizes = checkShape(where, shape)
    const handle = this.handle(where, 'this')
    if (countElements(sizes) !== this.size) {
      const requirement = `have ${this.size} elements as ${formatShape(this.shape)} has`
      fail('ERR_SHAPE', where, 'shape', requirement, formatShape(sizes))
    }
    return this.#recordView(
      where,
      () => native.tensorView(handle, 0, sizes),
      (dy, shape) => dy.reshape(shape),
    )
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
    const sizes = [end - begin, ...rowShape]
    const view = () => native.tensorView(handle, begin * rowSize, sizes)
    return this.#recordView(where, view, (dy, shape) => {
      const dx = dy.device.zeros(shape)
      const part = dx.rows(begin, end).copyFrom(dy)
      part.dispose()
      return dx
    })
  }

  /** @internal Rows from `begin` on, under a shape, where nothing is recorded. */
  view(begin: number, shape: readonly number[]): Tensor<D> {
    const offset = begin * countElements(this.shape.slice(1))
    return new Tensor(this.device, native.tensorView(this.handle('view', 'this'), offset, shape))
  }

  #recordView(
    where: string,
    view: () => TensorHandle,
    gradient: (dy: Tensor, shape: readonly number[]) => Tensor,
  ): Tensor<D> {
    const forward = (): Tensor => new Tensor(this.device, view())
    return recorded(where, { x: this as Tensor }, undefined, forward, () => ({
      saved: {},
      backward: (dy) => ({ x: gradient(dy, this.shape) }),
    })) as Tensor<D>
  }

  /** Dtype, shape and device: `Tensor float32 [4, 32] on cpu`. */
  override toString(): string {
    const disposed = this.disposed ? ', disposed' : ''
    return `Tensor ${this.dtype} ${formatShape(this.shape)} on ${this.device.name}${disposed}`
  }

  /** @internal */
  [inspect](): string {
    return this.toString()
  }
}

import { disposeOnError } from './atomically.js'
import { type DeviceHandle, type MemoryInfo, native, type TensorHandle } from './binding.js'
import { type DType, type DTypeOfData, dtypeCode, isHalf } from './dtype.js'
import { type NumericData, readNumbers } from './encode.js'
import { fail } from './errors.js'
import { inspect } from './inspect.js'
import { tensorOf } from './new-tensor.js'
import { checkFloat32, checkInteger, checkOptions } from './options.js'
import { Seeds } from './seeds.js'
import { checkShape } from './shape.js'
import { Tensor } from './tensor.js'

export type { MemoryInfo }

/** Options of {@link Device.normal}. */
export interface NormalOptions {
  /** Default 0. */
  mean?: number
  /** Standard deviation. Default 1. */
  std?: number
  /** An integer from 0. */
  seed: number
  /** float32 (default), float16 or bfloat16. */
  dtype?: DType
}

/** Options of {@link Device.uniform}. */
export interface UniformOptions {
  /** Default 0. */
  low?: number
  /** Default 1; never a value itself. */
  high?: number
  /** An integer from 0. */
  seed: number
  /** float32 (default), float16 or bfloat16. */
  dtype?: DType
}

/** Throws ERR_DEVICE for what is not a device. */
export function checkDevice(where: string, device: unknown): asserts device is Device {
  if (!Device.is(device))
    fail('ERR_DEVICE', where, 'device', 'be a Device', device, 'Open one with openDevice().')
}

// In the order of native/ops/random_fill.h.
const distributions = ['uniform', 'normal'] as const

/** Uniform in [a, b), or normal with mean a and standard deviation b. */
interface Distribution {
  kind: (typeof distributions)[number]
  a: number
  b: number
  seed: unknown
  dtype?: DType
}

const names = {
  normal: ['mean', 'std', 'seed', 'dtype'],
  uniform: ['low', 'high', 'seed', 'dtype'],
}

/** A device with its stream and memory. Made by {@link openDevice}. */
export class Device {
  /** As {@link openDevice} takes it: 'cpu', 'cuda:0'. */
  readonly name: string
  /** Which backend runs its work. */
  readonly kind: 'cpu' | 'cuda' | 'simt'
  /** Model, instruction set and threads: `'AMD EPYC, avx512vnni, 2 threads'`. */
  readonly description: string
  /** Threads of the CPU; 0 for other devices. */
  readonly threads: number
  #reason = ''
  /** @internal */
  readonly handle: DeviceHandle
  /** @internal Of the modules that are made on it without a seed. */
  readonly seeds = new Seeds()

  /** @internal Devices are made by openDevice. */
  constructor(handle: DeviceHandle) {
    this.handle = handle
    this.name = handle.name
    this.kind = handle.kind
    this.description = handle.description
    this.threads = handle.threads
  }

  /** Why the last openDevice() that returned it took this device. */
  get reason(): string {
    return this.#reason
  }
  /** @internal */
  set reason(reason: string) {
    this.#reason = reason
  }

  /** Whether the device was closed. */
  get closed(): boolean {
    return native.deviceClosed(this.handle)
  }

  /**
   * Ends the device's threads and frees its memory, that of every tensor on it too, for all who
   * hold it. From this call on each use of it, of its tensors and of layers on it throws
   * ERR_DEVICE, except `dispose()`; what was begun before is finished: promises settle. The next
   * openDevice() makes a new device. Resolves when threads and memory are gone; a second call does
   * nothing.
   */
  close(): Promise<void> {
    return native.deviceClose(this.handle)
  }

  /**
   * Bytes in tensors (`allocated`), reserved from the system (`reserved`), the maximum of
   * `allocated` so far (`peak`), and of the machine or of this process's container (`total`).
   */
  memory(): MemoryInfo {
    return native.deviceMemory(this.handle)
  }

  /**
   * Where the device's time went since the last call: calls and milliseconds of each native
   * operation. Work that still runs is not counted. A GPU measures from the first call on.
   */
  profile(): Record<string, { calls: number; milliseconds: number }> {
    return native.deviceProfile(this.handle)
  }

  /**
   * Resolves when all work so far has run; rejects with the earliest fault in it that was not
   * reported, by this or by the `data()` of a tensor that depends on it.
   */
  synchronize(): Promise<void> {
    return native.deviceSynchronize(this.handle)
  }

  /** @internal Whether this is a device, and no Proxy of one. */
  static is(value: unknown): value is Device {
    return typeof value === 'object' && value !== null && #allocate in value
  }

  /**
   * Copies data in: an array of numbers, or a typed array of any realm. The dtype defaults to the
   * array's own (numbers, and typed arrays of a type that tensors don't have: float32). Numbers are
   * rounded once, to the nearest of the dtype, ties to even; integers must be in range. A
   * Uint16Array is taken as the bits of a 16-bit dtype, which must be named. The shape defaults to
   * `[data.length]`.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OUT_OF_MEMORY
   */
  tensor<T extends NumericData, D extends DType = DTypeOfData<T>>(
    data: T,
    shape?: readonly number[],
    dtype?: D,
  ): Tensor<D> {
    const where = 'device.tensor'
    const sizes = shape === undefined ? undefined : checkShape(where, shape)
    return tensorOf(where, 'data', readNumbers(where, 'data', data), this, sizes, dtype)
  }

  /** A tensor with undefined contents. @throws ERR_SHAPE, ERR_DTYPE, ERR_OUT_OF_MEMORY */
  empty<D extends DType = 'float32'>(shape: readonly number[], dtype?: D): Tensor<D> {
    return new Tensor(this, this.#allocate('device.empty', shape, dtype))
  }

  /** A tensor of zeros. @throws ERR_SHAPE, ERR_DTYPE, ERR_OUT_OF_MEMORY */
  zeros<D extends DType = 'float32'>(shape: readonly number[], dtype?: D): Tensor<D> {
    const handle = this.#allocate('device.zeros', shape, dtype)
    return disposeOnError(() => {
      const zeros = new Tensor<D>(this, handle)
      native.tensorFill(handle, 0)
      return zeros
    })
  }

  /**
   * Normal numbers from a counter-based generator: the same for a seed on every device.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION
   */
  normal<D extends DType = 'float32'>(
    shape: readonly number[],
    options: NormalOptions & { dtype?: D },
  ): Tensor<D> {
    const where = 'device.normal'
    const { mean, std, seed, dtype } = checkOptions(where, options, names.normal)
    return this.#random(where, shape, {
      kind: 'normal',
      a: checkFloat32(where, 'mean', mean ?? 0),
      b: checkFloat32(where, 'std', std ?? 1, 0),
      seed,
      dtype,
    })
  }

  /**
   * Uniform numbers in `[low, high)` (default `[0, 1)`), the same for a seed on every device.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION
   */
  uniform<D extends DType = 'float32'>(
    shape: readonly number[],
    options: UniformOptions & { dtype?: D },
  ): Tensor<D> {
    const where = 'device.uniform'
    const { low, high, seed, dtype } = checkOptions(where, options, names.uniform)
    const a = checkFloat32(where, 'low', low ?? 0)
    const b = checkFloat32(where, 'high', high ?? 1, a)
    return this.#random(where, shape, { kind: 'uniform', a, b, seed, dtype })
  }

  #random<D extends DType>(
    where: string,
    shape: readonly number[],
    { kind, a, b, seed, dtype = 'float32' }: Distribution,
  ): Tensor<D> {
    const sizes = checkShape(where, shape)
    const code = dtypeCode(where, dtype)
    if (dtype !== 'float32' && !isHalf(dtype))
      fail('ERR_DTYPE', where, 'dtype', 'be float32, float16 or bfloat16', dtype)
    const checkedSeed = checkInteger(where, 'seed', seed, 0)
    const handle = native.tensorEmpty(this.handle, sizes, code, where)
    return disposeOnError(() => {
      const random = new Tensor<D>(this, handle)
      native.tensorRandom(handle, distributions.indexOf(kind), a, b, checkedSeed, 0, 0)
      return random
    })
  }

  #allocate(where: string, shape: readonly number[], dtype: DType = 'float32'): TensorHandle {
    const sizes = checkShape(where, shape)
    return native.tensorEmpty(this.handle, sizes, dtypeCode(where, dtype), where)
  }

  /** Name and description: `Device cpu (AMD EPYC, avx512vnni, 2 threads)`. */
  toString(): string {
    return `Device ${this.name} (${this.description})${this.closed ? ', closed' : ''}`
  }

  /** @internal */
  [inspect](): string {
    return this.toString()
  }
}

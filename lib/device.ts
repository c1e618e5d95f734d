import { type DeviceHandle, type DeviceInfo, type MemoryInfo, native } from './binding.js'
import {
  type DType,
  dtypeCode,
  encode,
  expectData,
  isHalf,
  naturalDType,
  type TypedArray,
} from './dtype.js'
import { fail, MemoryLayersError } from './errors.js'
import { integer, nearest, number, options } from './options.js'
import { elements, Tensor, text } from './tensor.js'

export type { DeviceInfo, MemoryInfo }

/**
 * `'auto'` takes the first usable GPU, else the CPU; any other name that can't be had is an error.
 */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}` | 'simt'

/** Options of {@link openDevice}. */
export interface DeviceOptions {
  /** Threads of the CPU, default: every core this process may use. */
  threads?: number
}

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
  /** Default 1; never drawn itself. */
  high?: number
  /** An integer from 0. */
  seed: number
  /** float32 (default), float16 or bfloat16. */
  dtype?: DType
}

/** Every device known to this package, usable or not; `reason` says why one is not. */
export function devices(): readonly DeviceInfo[] {
  return native.devices()
}

/**
 * Opens a device with a stream of its own. Default `'auto'`, which the environment variable
 * MEMORY_LAYERS_DEVICE overrides.
 * @throws ERR_DEVICE, naming what was looked for; ERR_OPTION, ERR_VALUE
 */
export function openDevice(name?: DeviceName, given?: DeviceOptions): Device {
  const { threads } = options('openDevice', given, ['threads'])
  const count = threads === undefined ? 0 : integer('openDevice', 'threads', threads, 1, 1024)
  const asked = name === undefined ? 'auto' : name
  if (typeof asked !== 'string')
    fail('ERR_DEVICE', 'openDevice', 'name', "be 'auto', 'cpu', 'cuda', 'cuda:N' or 'simt'", asked)
  const override = asked === 'auto' ? process.env['MEMORY_LAYERS_DEVICE'] : undefined
  const wanted = override || asked
  const known = native.devices()
  if (wanted === 'auto') {
    const gpu = known.find((d) => d.kind === 'cuda' && d.available)
    const cuda = known.find((d) => d.kind === 'cuda')
    const reason = gpu
      ? 'the first usable GPU'
      : `no usable GPU: ${cuda?.reason ?? 'none is known'}`
    return new Device(native.openDevice(gpu?.name ?? 'cpu', count), reason)
  }
  const info =
    known.find((d) => d.name === wanted) ??
    (wanted === 'cuda' ? known.find((d) => d.kind === 'cuda') : undefined)
  if (!info?.available) {
    const names = known.map((d) => d.name)
    const from = override ? ' (from MEMORY_LAYERS_DEVICE)' : ''
    const near = info ? undefined : nearest(wanted, ['auto', ...names])
    const why = info
      ? (info.reason ?? 'it is not usable')
      : `no such device; known are auto, ${names.join(', ')}`
    throw new MemoryLayersError(
      'ERR_DEVICE',
      `openDevice: device "${wanted}"${from} can't be had: ${why}.\n  ${near ? `Did you mean "${near}"?` : "Use 'auto' to take the CPU where there is no GPU."}`,
    )
  }
  return new Device(
    native.openDevice(info.name, count),
    override ? 'named by MEMORY_LAYERS_DEVICE' : 'named by the caller',
  )
}

/** @internal Throws ERR_DEVICE for what is not a device. */
export function expectDevice(where: string, device: unknown): asserts device is Device {
  if (!(device instanceof Device))
    fail('ERR_DEVICE', where, 'device', 'be a Device', device, 'Open one with openDevice().')
}

/** A device with its stream and memory. Made by {@link openDevice}. */
export class Device {
  /** As {@link openDevice} takes it: 'cpu', 'cuda:0'. */
  readonly name: string
  /** Which backend runs its work. */
  readonly kind: 'cpu' | 'cuda' | 'simt'
  /** For people: `'AMD EPYC, avx512vnni, 2 threads'`. */
  readonly description: string
  /** Why this device was taken. */
  readonly reason: string
  /** @internal */
  readonly handle: DeviceHandle

  /** @internal Devices are made by openDevice. */
  constructor(handle: DeviceHandle, reason: string) {
    this.handle = handle
    this.name = handle.name
    this.kind = handle.kind
    this.description = handle.description
    this.reason = reason
  }

  /**
   * Bytes in tensors (`allocated`), taken from the system (`reserved`), the greatest `allocated` so
   * far (`peak`), and of the machine (`total`).
   */
  memory(): MemoryInfo {
    return native.deviceMemory(this.handle)
  }

  /**
   * Where the device's time went since the last call: calls and milliseconds of each native
   * operation. Work that still runs is not in it.
   */
  profile(): Record<string, { calls: number; milliseconds: number }> {
    return native.deviceProfile(this.handle)
  }

  /** Resolves when all work so far has run; rejects with the first fault found in it. */
  synchronize(): Promise<void> {
    return native.deviceSynchronize(this.handle)
  }

  /**
   * Copies data in. The dtype defaults to the array's own (numbers: float32); numbers and
   * Float32Array are rounded to a 16-bit dtype, a Uint16Array is taken as its bits. The shape
   * defaults to `[data.length]`.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OUT_OF_MEMORY
   */
  tensor(data: TypedArray | readonly number[], shape?: readonly number[], dtype?: DType): Tensor {
    const where = 'device.tensor'
    expectData(where, data)
    const type = dtype ?? naturalDType(data)
    const code = dtypeCode(where, type)
    const sizes = shape ?? [data.length]
    if (elements(where, sizes) !== data.length) {
      fail('ERR_SHAPE', where, 'shape', `have ${data.length} elements as the data has`, text(sizes))
    }
    const encoded = encode(where, data, type)
    if (isHalf(type) && encoded instanceof Float32Array) {
      const exact = new Tensor(
        this,
        native.tensorFrom(this.handle, encoded, sizes, dtypeCode(where, 'float32')),
      )
      const rounded = exact.to(type)
      exact.dispose()
      return rounded
    }
    return new Tensor(this, native.tensorFrom(this.handle, encoded, sizes, code))
  }

  /** A tensor with undefined contents. @throws ERR_SHAPE, ERR_DTYPE, ERR_OUT_OF_MEMORY */
  empty(shape: readonly number[], dtype: DType = 'float32'): Tensor {
    elements('device.empty', shape)
    return new Tensor(
      this,
      native.tensorEmpty(this.handle, shape, dtypeCode('device.empty', dtype)),
    )
  }

  /** A tensor of zeros. @throws ERR_SHAPE, ERR_DTYPE, ERR_OUT_OF_MEMORY */
  zeros(shape: readonly number[], dtype: DType = 'float32'): Tensor {
    elements('device.zeros', shape)
    const handle = native.tensorEmpty(this.handle, shape, dtypeCode('device.zeros', dtype))
    native.tensorFill(handle, 0)
    return new Tensor(this, handle)
  }

  /**
   * Normal numbers from a counter-based generator: the same for a seed on every device. @throws
   * ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION
   */
  normal(shape: readonly number[], given: NormalOptions): Tensor {
    const o = options('device.normal', given, ['mean', 'std', 'seed', 'dtype'])
    const std = number('device.normal', 'std', o.std ?? 1, 0)
    return this.#random(
      'device.normal',
      shape,
      o.dtype,
      1,
      number('device.normal', 'mean', o.mean ?? 0),
      std,
      o.seed,
    )
  }

  /**
   * Uniform numbers in `[low, high)` (default `[0, 1)`), the same for a seed on every device.
   * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION
   */
  uniform(shape: readonly number[], given: UniformOptions): Tensor {
    const o = options('device.uniform', given, ['low', 'high', 'seed', 'dtype'])
    const low = number('device.uniform', 'low', o.low ?? 0)
    return this.#random(
      'device.uniform',
      shape,
      o.dtype,
      0,
      low,
      number('device.uniform', 'high', o.high ?? 1, low),
      o.seed,
    )
  }

  #random(
    where: string,
    shape: readonly number[],
    dtype: DType = 'float32',
    kind: number,
    a: number,
    b: number,
    seed?: number,
  ): Tensor {
    elements(where, shape)
    const code = dtypeCode(where, dtype)
    if (dtype !== 'float32' && !isHalf(dtype))
      fail('ERR_DTYPE', where, 'dtype', 'be float32, float16 or bfloat16', dtype)
    integer(where, 'seed', seed, 0)
    const handle = native.tensorEmpty(this.handle, shape, code)
    native.tensorRandom(handle, kind, a, b, seed!)
    return new Tensor(this, handle)
  }

  /** For people. */
  toString(): string {
    return `Device ${this.name} (${this.description})`
  }
}

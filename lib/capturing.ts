// The capture that is being made now, for those whose calls are in it: what can't be captured is
// refused, and numbers that the host keeps are read on the device instead.

import { type CaptureHandle, native, type TensorHandle } from './binding.js'
import type { Device } from './device.js'
import { dtypeCode } from './dtype.js'
import { MemoryLayersError } from './errors.js'
import type { Tensor } from './tensor.js'
import type { TensorMemory } from './tensor-memory.js'

/** Numbers of the host that captured work reads on the device: written before each replay. */
export interface HostNumbers {
  readonly tensor: TensorHandle
  readonly bytes: number
  /** Fills in the numbers as they are now. */
  write(into: DataView): void
}

/** A count that goes on with each call; a replay counts the calls that are in it. */
export interface HostCounter {
  value: number
}

interface Counted {
  readonly start: number
  readonly numbers: TensorHandle
}

let ids = 0

/** A capture while it is made. */
export class Capturing {
  readonly id = ++ids
  readonly device: Device
  readonly handle: CaptureHandle
  /** Tensors made in it, and all that were used. */
  readonly made = new Set<Tensor>()
  readonly used = new Set<TensorMemory>()
  readonly numbers: HostNumbers[] = []
  readonly counters = new Map<HostCounter, Counted>()
  /** What was refused: the capture fails, whoever caught it. */
  refused: MemoryLayersError | undefined
  readonly #owners = new Map<object, TensorHandle>()

  constructor(device: Device, handle: CaptureHandle) {
    this.device = device
    this.handle = handle
  }

  /** The numbers of `owner`, on the device: `write` fills them in before each replay. */
  numbersOf(
    owner: object,
    dtype: 'float32' | 'int32',
    count: number,
    write: (into: DataView) => void,
  ): TensorHandle {
    const found = this.#owners.get(owner)
    if (found) return found
    const code = dtypeCode('device.capture', dtype)
    const tensor = native.captureNumbers(this.handle, [count], code)
    this.numbers.push({ tensor, bytes: 4 * count, write })
    this.#owners.set(owner, tensor)
    return tensor
  }

  /** As {@link Capturing.numbersOf}, of a counter; and what it counted before the capture. */
  counterOf(counter: HostCounter, write: (into: DataView) => void): Counted {
    const found = this.counters.get(counter)
    if (found) return found
    const numbers = this.numbersOf(counter, 'int32', 4, write)
    const counted = { start: counter.value, numbers }
    this.counters.set(counter, counted)
    return counted
  }

  /** Counters are as before: what was captured has not run. Returns what each counted. */
  restoreCounters(): [HostCounter, number][] {
    return [...this.counters].map(([counter, { start }]) => {
      const calls = counter.value - start
      counter.value = start
      return [counter, calls]
    })
  }
}

let current: Capturing | undefined

/** The capture that is being made on the device, or on any. */
export function capturing(device?: Device): Capturing | undefined {
  return device === undefined || current?.device === device ? current : undefined
}

/** Makes it the current capture. */
export function setCapturing(capture: Capturing | undefined): void {
  current = capture
}

/** Tells that a tensor is used. */
export function noteUse(tensor: TensorMemory): void {
  current?.used.add(tensor)
}

/** A parameter; the gradient of a table is its queue. */
export type UsedParameter =
  | { readonly kind: 'dense'; readonly value: Tensor; readonly grad: Tensor }
  | { readonly kind: 'table'; readonly value: Tensor }

/** As {@link noteUse}, of the values and gradients of parameters that native code uses. */
export function noteParameters(list: readonly UsedParameter[]): void {
  if (!current) return
  for (const p of list) {
    current.used.add(p.value)
    if (p.kind === 'dense') current.used.add(p.grad)
  }
}

const waits = 'it waits for the device or copies from the host'

/** Throws ERR_UNSUPPORTED, naming the call, if the device's work is being captured. */
export function refuseInCapture(
  where: string,
  device?: Device,
  why = waits,
  hint = 'Call it outside of device.capture(); inputs change by write() between replays.',
): void {
  const capture = capturing(device)
  if (!capture) return
  const message = `${where}: can't be captured, as ${why}.\n  ${hint}`
  const error = new MemoryLayersError('ERR_UNSUPPORTED', message)
  capture.refused ??= error
  throw error
}

/** Which capture is being made; 0: none. What backward needs is spent in the same. */
export function captureId(): number {
  return current?.id ?? 0
}

/** Throws ERR_UNSUPPORTED where the forward, of that captureId(), was not in the same capture. */
export function checkCaptureId(where: string, id: number): void {
  if (id === captureId()) return
  const problem = 'the forward and this backward are not in the same capture'
  const error = new MemoryLayersError(
    'ERR_UNSUPPORTED',
    `${where}: ${problem}.\n  Call both inside of one device.capture(), or both outside.`,
  )
  if (current) current.refused ??= error
  throw error
}

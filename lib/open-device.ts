// The devices there are, and how one is opened.

import { type DeviceInfo, native } from './binding.js'
import { shorten } from './describe.js'
import { Device } from './device.js'
import { fail, MemoryLayersError } from './errors.js'
import { checkInteger, checkOptions, nearestName } from './options.js'

export type { DeviceInfo }

/**
 * `'auto'` takes the first usable GPU, else the CPU; any other name that can't be had is an error.
 */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | `cuda:${number}` | 'simt'

/** Options of {@link openDevice}. */
export interface DeviceOptions {
  /** Threads of the CPU, default: every core this process may use. */
  threads?: number
}

/** Every device known to this package, usable or not; `reason` says why one is not. */
export function devices(): readonly DeviceInfo[] {
  return native.devices()
}

// One for each name and number of threads; a worker has devices of its own.
const openDevices = new Map<string, Device>()

/**
 * Opens a device with a stream of its own. Default `'auto'`, which the environment variable
 * MEMORY_LAYERS_DEVICE overrides. There is one device for each name and number of threads in a
 * thread of JavaScript: a second call returns it again, until it is closed.
 * @throws ERR_DEVICE, naming what was looked for, or what could not be started; ERR_OPTION,
 * ERR_VALUE
 */
export function openDevice(name?: DeviceName, options?: DeviceOptions): Device {
  const where = 'openDevice'
  const { threads } = checkOptions(where, options, ['threads'])
  const count = threads === undefined ? 0 : checkInteger(where, 'threads', threads, 1, 1024)
  const requested = name === undefined ? 'auto' : name
  if (typeof requested !== 'string') {
    const requirement = "be 'auto', 'cpu', 'cuda', 'cuda:N' or 'simt'"
    fail('ERR_DEVICE', where, 'name', requirement, requested)
  }
  const override = requested === 'auto' ? process.env['MEMORY_LAYERS_DEVICE'] : undefined
  const wanted = override || requested
  const known = native.devices()
  if (wanted === 'auto') {
    const gpu = known.find((d) => d.kind === 'cuda' && d.available)
    const cuda = known.find((d) => d.kind === 'cuda')
    const reason = gpu
      ? 'the first usable GPU'
      : `no usable GPU: ${cuda?.reason ?? 'none is known'}`
    return openOnce(gpu?.name ?? 'cpu', count, reason)
  }
  const info =
    known.find((d) => d.name === wanted) ??
    (wanted === 'cuda' ? known.find((d) => d.kind === 'cuda') : undefined)
  if (!info?.available) {
    const source = override ? ' (from MEMORY_LAYERS_DEVICE)' : ''
    throw unavailable(`openDevice: device "${shorten(wanted)}"${source}`, wanted, info, known)
  }
  const reason = override ? 'named by MEMORY_LAYERS_DEVICE' : 'named by the caller'
  return openOnce(info.name, count, reason)
}

function openOnce(name: string, threads: number, reason: string): Device {
  const handle = native.openDevice(name, threads)
  const key = `${handle.name} ${handle.threads}`
  const known = openDevices.get(key)
  const device = known && !known.closed ? known : new Device(handle)
  openDevices.set(key, device)
  device.reason = reason
  return device
}

function unavailable(
  subject: string,
  wanted: string,
  info: DeviceInfo | undefined,
  known: readonly DeviceInfo[],
): MemoryLayersError {
  const names = ['auto', ...known.map((d) => d.name)]
  const nearest = info ? undefined : nearestName(wanted, names)
  const reason = info
    ? (info.reason ?? 'it is not usable')
    : `no such device; known are ${names.join(', ')}`
  const hint = nearest
    ? `Did you mean "${nearest}"?`
    : "Use 'auto' to take the CPU where there is no GPU."
  return new MemoryLayersError('ERR_DEVICE', `${subject} can't be had: ${reason}.\n  ${hint}`)
}

// A tensor that is on another device than the others of its call.

import type { Device } from './device.js'
import { fail, MemoryLayersError } from './errors.js'

/** Throws ERR_DEVICE_MISMATCH, or ERR_DEVICE where one of the two was closed. */
export function failMismatch(where: string, argument: string, wanted: Device, got: Device): never {
  for (const device of [got, wanted]) {
    if (!device.closed) continue
    const hint = 'Open it again with openDevice() and make its tensors anew.'
    const sentence = `${where}: device "${device.name}" was closed.`
    throw new MemoryLayersError('ERR_DEVICE', `${sentence}\n  ${hint}`)
  }
  fail(
    'ERR_DEVICE_MISMATCH',
    where,
    argument,
    `be on device ${label(wanted, got)}`,
    `a tensor of another device ${label(got, wanted)}`,
    `Move it with ${argument}.to(device).`,
  )
}

/** A device's name, with its threads where the other has the same name. */
function label(device: Device, other: Device): string {
  const count = `${device.threads} thread${device.threads === 1 ? '' : 's'}`
  return `"${device.name}"${device.name === other.name ? ` with ${count}` : ''}`
}

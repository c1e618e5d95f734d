import { describe } from 'vitest'
import { type Device, type DeviceName, devices, openDevice } from '../../lib/index.js'

/** Runs a suite on every device that this machine has: cpu, and simt and cuda where they are. */
export function onEveryDevice(suite: (device: Device) => void): void {
  describe.each(devices().filter((d) => d.available))('on $name', ({ name }) => suite(openDevice(name as DeviceName)))
}

import { describe } from 'vitest'
import { type Device, type DeviceName, devices, openDevice } from '../../lib/index.js'

// Devices by name or kind, separated by commas: MEMORY_LAYERS_TEST_DEVICES=simt. Default: every
// device that is there.
const wanted = (process.env['MEMORY_LAYERS_TEST_DEVICES'] ?? 'cpu,cuda,simt').split(',')

/** Names of the devices to test that this machine has. */
export const testDevices: readonly DeviceName[] = devices()
  .filter((d) => d.available && (wanted.includes(d.kind) || wanted.includes(d.name)))
  .map((d) => d.name as DeviceName)

/** Runs a suite on every device to test. */
export function onEveryDevice(suite: (device: Device) => void): void {
  describe.each(testDevices)('on %s', (name) => suite(openDevice(name)))
}

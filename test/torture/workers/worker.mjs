// Enters a state, says so, and stays in it until it is terminated; with `leave`, for a moment, and
// then leaves by process.exit.

import { parentPort, workerData } from 'node:worker_threads'
import { actions } from './actions.mjs'

const { entry, device: name, state, leave, file } = workerData
if (state === 'load the package') parentPort.postMessage('begun')
const ml = await import(entry)
if (state === 'open') parentPort.postMessage('begun')
const device = ml.openDevice(name, { threads: name === 'cpu' ? 2 : undefined })
const action = actions(ml, device, file)[state] ?? (() => new Promise(setImmediate))
await action()
parentPort.postMessage('begun')
const end = performance.now() + 5
while (!leave || performance.now() < end) {
  await action()
  // So that a state without a wait does not enqueue work without bound.
  await device.synchronize().catch(() => {})
}
process.exit(0)

// No call but dataSync waits for the device: while seconds of work are queued, timers fire on time.

import { monitorEventLoopDelay } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { MemoryLayer, openDevice, ops, Sgd } from '../../../lib/index.js'
import type { Part } from '../part.js'

// A garbage collection or a busy neighbour may cost this much; a call that waits for the device
// costs as much as the work behind it, which is a second and more in each case here.
const maxDelay = 250

/** The longest delay of the event loop while `work` runs, in milliseconds. */
async function longestDelay(work: () => Promise<unknown>): Promise<number> {
  const monitor = monitorEventLoopDelay({ resolution: 1 })
  monitor.enable()
  await work()
  await sleep(5)
  monitor.disable()
  return monitor.max / 1e6
}

/** The least of three: the machine may be busy with something else. */
async function boundedDelay(part: Part, name: string, work: () => Promise<unknown>) {
  let least = Infinity
  for (let round = 0; round < 3 && least > maxDelay; round++)
    least = Math.min(least, await longestDelay(work))
  part.most('longest delay of the event loop while work is queued (ms)', Math.ceil(least))
  part.check(least <= maxDelay, () => `${name}: the event loop was blocked for ${least} ms`)
}

export async function eventLoop(part: Part): Promise<void> {
  const device = openDevice('cpu')
  const x = device.normal([1024, 1024], { seed: 1 })
  const layer = new MemoryLayer(device, { inputDim: 1024, nKeys: 128, keyDim: 256 })
  const optimizer = new Sgd(layer.parameters(), { lr: 1e-3 })
  await device.synchronize()

  await boundedDelay(part, 'products', async () => {
    for (let i = 0; i < 20; i++) {
      ops.linear(x, x).dispose()
      if (i % 5 === 4) await sleep(1)
    }
    await device.synchronize()
  })
  await boundedDelay(part, 'training', async () => {
    for (let i = 0; i < 3; i++) {
      const { output, context } = layer.forward(x)
      layer.backward(context, output).dispose()
      output.dispose()
      optimizer.step()
      optimizer.zeroGrad()
      await sleep(1)
    }
    await device.synchronize()
  })
  await boundedDelay(part, 'a large tensor', async () => {
    for (let i = 0; i < 4; i++) {
      const t = device.empty([2 ** 27])
      await sleep(1)
      t.dispose()
      await sleep(1)
    }
    await device.synchronize()
  })
  await boundedDelay(part, 'disposal behind queued work', async () => {
    const y = ops.linear(x, x)
    for (let i = 0; i < 10; i++) ops.linear(y, x, undefined, { out: x.to('float32') })
    y.dispose()
    await sleep(1)
    await device.synchronize()
  })
  optimizer.dispose()
  layer.dispose()
  x.dispose()
}

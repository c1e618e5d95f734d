// A million steps of a small layer: what the device holds stays the same to the byte, and the
// process does not grow.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import {
  AdamW,
  clipGradNorm,
  MemoryLayer,
  openDevice,
  saveSafetensors,
} from '../../../lib/index.js'
import type { Part } from '../part.js'

const wanted = 1_000_000
const period = 2000
// Code is compiled, and the allocator fills its lists.
const warmUp = 4 * period
// A leak of 16 bytes a step shows in a run of a million.
const maxGrowth = 16 * 2 ** 20

export async function flatMemory(part: Part): Promise<void> {
  const device = openDevice('cpu')
  const layer = new MemoryLayer(device, {
    inputDim: 8,
    heads: 1,
    knn: 2,
    nKeys: 4,
    keyDim: 4,
    seed: 1,
  })
  const parameters = layer.parameters()
  const optimizer = new AdamW(parameters, { lr: 1e-6 })
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-steps-'))
  const x = device.normal([2, 8], { seed: part.seed })

  const step = () => {
    const { output, context } = layer.forward(x)
    layer.backward(context, output).dispose()
    output.dispose()
    clipGradNorm(parameters, 1).dispose()
    optimizer.step()
    optimizer.zeroGrad()
  }
  /** Device and process, when nothing is pending and what is garbage has been collected. */
  const memory = async (atMost = 0) => {
    await saveSafetensors(join(folder, 'a.safetensors'), layer.stateDict())
    await device.synchronize()
    for (let round = 0; round < 10; round++) {
      globalThis.gc?.()
      await sleep(2)
      if (device.memory().allocated <= atMost) break
    }
    return { allocated: device.memory().allocated, rss: process.memoryUsage().rss }
  }

  let steps = 0
  let first: { allocated: number; rss: number } | undefined
  while (steps < wanted && (part.timeLeft() || steps < 2 * warmUp)) {
    for (let i = 0; i < period; i++) {
      step()
      if (i % 100 === 99) await device.synchronize()
    }
    steps += period
    part.count('steps', period)
    const held = await memory(first?.allocated)
    if (steps <= warmUp) {
      first = held
      continue
    }
    const { allocated, rss } = first!
    const [more, grown] = [held.allocated - allocated, held.rss - rss]
    part.most('growth of the process (KiB)', Math.max(0, Math.round(grown / 1024)))
    part.check(more <= 0, () => `after ${steps} steps the device holds ${more} bytes more`)
    part.check(grown < maxGrowth, () => `after ${steps} steps the process grew by ${grown} bytes`)
  }
  rmSync(folder, { recursive: true, force: true })
  optimizer.dispose()
  layer.dispose()
}

// The demo trains on the emulated GPU with the losses of the CPU.

import { expect, test } from 'vitest'
import { loadFacts } from '../examples/demo/data.js'
import { encode } from '../examples/demo/encoder.js'
import { Model } from '../examples/demo/model.js'
import { train } from '../examples/demo/train.js'
import { type DeviceName, openDevice } from '../lib/index.js'
import { testDevices } from './support/devices.js'

async function losses(name: DeviceName): Promise<number[]> {
  const device = openDevice(name)
  const facts = loadFacts(300)
  const data = { facts, rows: encode(facts.names, 1) }
  const list: number[] = []
  await train(device, new Model(device, 'memory', facts.countries.length, 1), data, {
    epochs: 2,
    seed: 1,
    lr: 3e-3,
    tableLr: 6e-3,
    onProgress: (p) => list.push(p.loss),
  })
  return list
}

test.runIf(testDevices.includes('simt'))(
  '300 facts, two epochs: loss by loss',
  { timeout: 180_000 },
  async () => {
    const wanted = await losses('cpu')
    const got = await losses('simt')
    expect(got.length).toBe(2)
    expect(wanted[1]).toBeLessThan(wanted[0]!)
    for (const [i, loss] of got.entries())
      expect(Math.abs(loss - wanted[i]!), `epoch ${i + 1}`).toBeLessThan(1e-4 * wanted[i]!)
  },
)

// A process may exit while a device works: its threads go on until the process is gone.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'
import { testDevices } from './support/devices.js'

const entry = `file://${fileURLToPath(new URL('..', import.meta.url))}dist/index.js`

const program = (device: string, delay: number) => `
import(${JSON.stringify(entry)}).then(({ AdamW, MemoryLayer, openDevice }) => {
  const device = openDevice('${device}')
  const options = { inputDim: 32, heads: 2, knn: 4, nKeys: 16, keyDim: 16 }
  const layer = new MemoryLayer(device, options)
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
  for (let i = 0; i < 40; i++) {
    const { output, context } = layer.forward(device.normal([16, 32], { seed: i }))
    layer.backward(context, output)
    optimizer.step()
    optimizer.zeroGrad()
  }
  setTimeout(() => process.exit(0), ${delay})
})`

test.each(testDevices)('process.exit while work runs, on %s', (device) => {
  for (const delay of [0, 60, 130, 200]) {
    const args = ['-e', program(device, delay)]
    const { status, signal, stderr } = spawnSync(process.execPath, args, {
      encoding: 'utf8',
      timeout: 30_000,
    })
    expect({ delay, status, signal, stderr }).toEqual({
      delay,
      status: 0,
      signal: null,
      stderr: '',
    })
  }
})

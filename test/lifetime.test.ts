// When memory is freed.

import { expect, test } from 'vitest'
import { AdamW, MemoryLayer, openDevice, ValueTable } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'

const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 8, keyDim: 8 }

onEveryDevice((device) => {
  test('a training loop whose contexts are spent and tensors disposed does not grow', async () => {
    const layer = new MemoryLayer(device, options)
    const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
    const step = () => {
      using x = device.normal([64, 16], { seed: 1 })
      const { output, context } = layer.forward(x)
      layer.backward(context, output).dispose()
      output.dispose()
      optimizer.step()
      optimizer.zeroGrad()
    }
    for (let i = 0; i < 5; i++) step()
    await device.synchronize()
    optimizer.zeroGrad()
    const before = device.memory()
    for (let i = 0; i < (device.kind === 'simt' ? 10 : 200); i++) {
      step()
      if (i % 20 === 19) await device.synchronize()
    }
    await device.synchronize()
    optimizer.zeroGrad()
    expect(device.memory().allocated).toBe(before.allocated)
  })

  test('a context that is disposed frees what it saved', () => {
    const layer = new MemoryLayer(device, options)
    const x = device.normal([256, 16], { seed: 1 })
    const before = device.memory().allocated
    const { output, context } = layer.forward(x)
    output.dispose()
    expect(device.memory().allocated).toBeGreaterThan(before)
    context.dispose()
    expect(device.memory().allocated).toBe(before)
  })
})

test('the memory of a disposed table returns to the system', async () => {
  const device = openDevice('cpu', { threads: 3 })
  const table = new ValueTable(device, { slots: 2 ** 20, dim: 64 })
  await device.synchronize()
  expect(device.memory().reserved).toBeGreaterThanOrEqual(2 ** 28)
  table.dispose()
  await device.synchronize()
  expect(device.memory().reserved).toBeLessThan(2 ** 24)
})

test('tensors that are not disposed are garbage-collected', async () => {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const device = openDevice('cpu', { threads: 3 })
  for (let i = 0; i < 50; i++) {
    device.zeros([1 << 18])
    if (i % 10 === 9) await device.synchronize()
  }
  for (let i = 0; i < 20 && device.memory().allocated > 2 ** 22; i++) {
    gc()
    await new Promise((resolve) => setTimeout(resolve, 10))
  }
  expect(device.memory().allocated).toBeLessThanOrEqual(2 ** 22)
})

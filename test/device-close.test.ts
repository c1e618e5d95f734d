// One device for each name and number of threads, and what is left of it when it is closed.

import { readdirSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { AdamW, type Device, MemoryLayer, openDevice, ops, ValueTable } from '../lib/index.js'
import { Embedding, Linear } from '../lib/nn/index.js'
import { testDevices } from './support/devices.js'
import { errorOf } from './support/errors.js'

const threads = () => readdirSync('/proc/self/task').length

describe('openDevice', () => {
  test('gives one device for a name and a number of threads', async () => {
    const device = openDevice('cpu', { threads: 2 })
    expect(openDevice('cpu', { threads: 2 })).toBe(device)
    const other = openDevice('cpu', { threads: 3 })
    expect(other).not.toBe(device)
    const all = openDevice('cpu')
    expect(openDevice('cpu', { threads: all.threads })).toBe(all)
    const x = device.tensor([1, 2])
    const y = openDevice('cpu', { threads: 2 }).tensor([3, 4])
    expect(Array.from(await ops.add(x, y).data())).toEqual([4, 6])
    const message = await errorOf('ERR_DEVICE_MISMATCH', () => ops.add(x, other.tensor([1, 2])))
    expect(message).toMatch(/"cpu" with 2 threads.*"cpu" with 3 threads/)
  })

  test('says why it took the device, each time', () => {
    expect(openDevice('cpu', { threads: 2 }).reason).toMatch(/named by the caller/)
    expect(openDevice('auto', { threads: 2 }).reason).toMatch(/GPU/)
    expect(openDevice('cpu', { threads: 2 }).reason).toMatch(/named by the caller/)
  })

  test('starts no thread when it is called again', () => {
    openDevice('cpu', { threads: 2 })
    const before = threads()
    for (let i = 0; i < 2000; i++) openDevice('cpu', { threads: 2 })
    expect(threads()).toBe(before)
  })
})

describe.each(testDevices)('device.close() on %s', (name) => {
  const options = { inputDim: 8, heads: 1, knn: 2, nKeys: 4, keyDim: 4 }
  // on the CPU a device of its own
  const open = (): Device => openDevice(name, name === 'cpu' ? { threads: 5 } : {})

  test('every later use is ERR_DEVICE, and the next openDevice makes a new device', async () => {
    const device = open()
    const x = device.tensor([1, 2, 3, 4, 5, 6, 7, 8], [1, 8])
    const y = device.tensor([1, 1, 1, 1, 1, 1, 1, 1], [1, 8])
    const table = new ValueTable(device, { slots: 16, dim: 8 })
    const layer = new MemoryLayer(device, { ...options, values: table })
    const linear = new Linear(device, { inputDim: 8, outputDim: 8 })
    const embedding = new Embedding(device, { count: 4, dim: 8 })
    const optimizer = new AdamW([...layer.parameters(), ...linear.parameters()], { lr: 0.1 })
    const { context } = layer.forward(x)
    const begun = [ops.add(x, y).data(), device.synchronize(), x.data()]

    expect(device.closed).toBe(false)
    const closing = device.close()
    expect(device.closed).toBe(true)
    const uses: Record<string, () => unknown> = {
      empty: () => device.empty([1]),
      zeros: () => device.zeros([1]),
      tensor: () => device.tensor([1]),
      normal: () => device.normal([1], { seed: 1 }),
      uniform: () => device.uniform([1], { seed: 1 }),
      memory: () => device.memory(),
      profile: () => device.profile(),
      synchronize: () => device.synchronize(),
      data: () => x.data(),
      dataSync: () => x.dataSync(),
      bits: () => x.bits(),
      write: () => x.write([1, 2, 3, 4, 5, 6, 7, 8]),
      copyFrom: () => x.copyFrom(y),
      to: () => x.to('float16'),
      'to another device': () => x.to(openDevice('cpu', { threads: 2 })),
      'to it': () => openDevice('cpu', { threads: 2 }).zeros([1]).to(device),
      reshape: () => x.reshape([8]),
      rows: () => x.rows(0, 1),
      add: () => ops.add(x, y),
      'with a tensor of another device': () => ops.add(x, openDevice('cpu').zeros([1, 8])),
      'layer.forward': () => layer.forward(x),
      'layer.infer with numbers': () => layer.infer(new Float32Array(8)),
      'layer.backward': () => layer.backward(context, y),
      'linear.forward': () => linear.forward(x),
      'embedding.infer': () => embedding.infer([1]),
      'optimizer.step': () => optimizer.step(),
      'optimizer.zeroGrad': () => optimizer.zeroGrad(),
      'table.gradient': () => table.gradient(),
      'table.zeroGrad': () => table.zeroGrad(),
      'new layer': () => new MemoryLayer(device, options),
      'new table': () => new ValueTable(device, { slots: 4, dim: 4 }),
    }
    const next = open()
    expect(next).not.toBe(device)
    const check = async () => {
      for (const [use, f] of Object.entries(uses))
        expect(await errorOf('ERR_DEVICE', f), use).toMatch(/was closed/)
    }
    await check()
    const [sum] = await Promise.all(begun)
    expect(Array.from(sum as Float32Array)).toEqual([2, 3, 4, 5, 6, 7, 8, 9])
    await closing
    await check()
    await device.close()
    for (const d of [x, y, context, optimizer, layer, linear, embedding, table]) d.dispose()
    expect(Array.from(await next.tensor([1, 2]).data())).toEqual([1, 2])
    await next.close()
  })

  test('ends its threads and frees its memory, that of its tensors too', async () => {
    await open().close()
    const before = threads()
    for (let round = 0; round < 3; round++) {
      const device = open()
      const kept = device.zeros([1024, 256])
      await device.synchronize()
      expect(threads()).toBeGreaterThan(before)
      await device.close()
      expect(kept.disposed).toBe(false)
    }
    // threads of the pool stay for other devices
    expect(threads()).toBeLessThanOrEqual(before + (name === 'cpu' ? 4 : 0))
  })

  test('a fault found late rejects what waits for it, and the device closes', async () => {
    const device = open()
    const indices = device.tensor(Int32Array.of(9), [1, 1])
    const y = ops.embeddingBag(device.zeros([4, 2]), indices, device.zeros([1, 1]))
    const read = errorOf('ERR_INDEX_RANGE', () => y.data())
    await device.close()
    await read
  })
})

// What is freed, when; and that a fault leaves nothing behind.

import { describe, expect, test } from 'vitest'
import { AdamW, MemoryLayer, openDevice, ops, Sgd, ValueTable } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'

const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 8, keyDim: 8 }

onEveryDevice((device) => {
  test('a training loop that disposes what it makes keeps its memory flat', async () => {
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

  test('a context that was spent frees what it saved; one that is dropped can be disposed', async () => {
    const layer = new MemoryLayer(device, options)
    const x = device.normal([256, 16], { seed: 1 })
    const before = device.memory().allocated
    const kept = layer.forward(x)
    kept.output.dispose()
    expect(device.memory().allocated).toBeGreaterThan(before)
    kept.context.dispose()
    expect(device.memory().allocated).toBe(before)
  })
})

test('a disposed table gives its memory back to the system', async () => {
  const device = openDevice('cpu')
  const table = new ValueTable(device, { slots: 2 ** 20, dim: 64 })
  await device.synchronize()
  expect(device.memory().reserved).toBeGreaterThanOrEqual(2 ** 28)
  table.dispose()
  await device.synchronize()
  expect(device.memory().reserved).toBeLessThan(2 ** 24)
})

test('tensors that are only dropped are collected in the end', async () => {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const gc = runInNewContext('gc') as () => void
  const device = openDevice('cpu')
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

onEveryDevice((device) => {
  describe('a fault in work that was enqueued', () => {
    const bad = () =>
      ops.embeddingBag(
        device.zeros([4, 2]),
        device.tensor(Int32Array.from([9]), [1, 1]),
        device.zeros([1, 1]),
      )

    test('voids all that was enqueued behind it until it is reported, and nothing after', async () => {
      const t = device.tensor([1, 2, 3])
      const y = bad()
      t.write([4, 5, 6])
      ops.add(t, t, { out: t })
      await errorOf('ERR_INDEX_RANGE', () => y.data())
      expect(Array.from(await t.data())).toEqual([1, 2, 3])
      ops.add(t, t, { out: t })
      expect(Array.from(await t.data())).toEqual([2, 4, 6])
    })

    test('is thrown at whichever wait comes next, to every wait that came before the report', async () => {
      bad()
      const t = device.tensor([1])
      const waits = [device.synchronize(), t.data(), t.data()]
      const results = await Promise.allSettled(waits)
      expect(results.map((r) => r.status)).toEqual(['rejected', 'rejected', 'rejected'])
      expect(Array.from(await t.data())).toEqual([1])
      bad()
      await errorOf('ERR_INDEX_RANGE', () => t.dataSync())
      expect(Array.from(t.dataSync())).toEqual([1])
    })

    test('no parameter, gradient, queue or optimizer state takes part of the faulty batch', async () => {
      const layer = new MemoryLayer(device, options)
      const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
      const x = device.normal([8, 16], { seed: 1 })
      const dy = device.normal([8, 16], { seed: 2 })
      const all = async () => {
        const numbers: number[][] = []
        for (const p of layer.parameters())
          numbers.push(
            [...(await p.value.data())],
            [...(p.kind === 'dense' ? await p.grad.data() : await p.grad.toDense().data())],
          )
        for (const t of Object.values(optimizer.stateDict())) numbers.push([...(await t.data())])
        return numbers
      }
      layer.backward(layer.forward(x).context, dy)
      optimizer.step()
      const before = await all()
      expect(layer.values.pendingReads).toBe(1)
      // The fault comes first, then a whole step on top of it, and the end of the step.
      bad()
      layer.backward(layer.forward(x).context, dy)
      optimizer.step()
      optimizer.zeroGrad()
      await errorOf('ERR_INDEX_RANGE', () => device.synchronize())
      expect(await all()).toEqual(before)
      expect(layer.values.pendingReads).toBe(1)
      // And the run goes on as if the batch had not been there.
      const other = new MemoryLayer(device, options)
      const same = new AdamW(other.parameters(), { lr: 0.1 })
      other.backward(other.forward(x).context, dy)
      same.step()
      for (const [l, o] of [
        [layer, optimizer],
        [other, same],
      ] as const) {
        o.zeroGrad()
        l.backward(l.forward(x).context, dy)
        o.step()
      }
      for (const [i, p] of layer.parameters().entries())
        expect(await p.value.data()).toEqual(await other.parameters()[i]!.value.data())
    })

    test('clipping that was voided is undone', async () => {
      const { clipGradNorm } = await import('../lib/index.js')
      const layer = new MemoryLayer(device, options)
      layer.backward(
        layer.forward(device.normal([8, 16], { seed: 1 })).context,
        device.normal([8, 16], { seed: 2 }),
      )
      const before = await layer.values.gradient().toDense().data()
      bad()
      clipGradNorm(layer.parameters(), 1e-3)
      await errorOf('ERR_INDEX_RANGE', () => device.synchronize())
      expect(await layer.values.gradient().toDense().data()).toEqual(before)
      new Sgd(layer.parameters(), { lr: 0.1 }).step()
      await device.synchronize()
    })
  })
})

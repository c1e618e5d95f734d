// When memory is freed, and what a fault of enqueued work leaves unchanged.

import { describe, expect, test } from 'vitest'
import { AdamW, clipGradNorm, MemoryLayer, openDevice, ops, Sgd, ValueTable } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { gradientsOf, valuesOf } from './support/layers.js'

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

onEveryDevice((device) => {
  describe('a fault in work that was enqueued', () => {
    const bad = () =>
      ops.embeddingBag(
        device.zeros([4, 2]),
        device.tensor(Int32Array.from([9]), [1, 1]),
        device.zeros([1, 1]),
      )

    test('voids the work enqueued after it until it is reported, and no later work', async () => {
      const t = device.tensor([1, 2, 3])
      const y = bad()
      t.write([4, 5, 6])
      ops.add(t, t, { out: t })
      await errorOf('ERR_INDEX_RANGE', () => y.data())
      expect(Array.from(await t.data())).toEqual([1, 2, 3])
      ops.add(t, t, { out: t })
      expect(Array.from(await t.data())).toEqual([2, 4, 6])
    })

    test('is thrown by every wait that begins before the report', async () => {
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

    test('changes no parameter, gradient, pending read or optimizer state', async () => {
      const make = () => {
        const layer = new MemoryLayer(device, options)
        return { layer, optimizer: new AdamW(layer.parameters(), { lr: 0.1 }) }
      }
      const x = device.normal([8, 16], { seed: 1 })
      const dy = device.normal([8, 16], { seed: 2 })
      const accumulate = ({ layer }: ReturnType<typeof make>) =>
        layer.backward(layer.forward(x).context, dy)
      const state = async ({ layer, optimizer }: ReturnType<typeof make>) => ({
        values: await valuesOf(layer.parameters()),
        gradients: await gradientsOf(layer.parameters()),
        optimizer: await Promise.all(
          Object.values(optimizer.stateDict()).map(async (t) => Array.from(await t.data())),
        ),
        pendingReads: layer.values.pendingReads,
      })
      const run = make()
      accumulate(run)
      run.optimizer.step()
      const before = await state(run)
      expect(before.pendingReads).toBe(1)

      // A fault, then a whole step of training behind it.
      bad()
      accumulate(run)
      run.optimizer.step()
      run.optimizer.zeroGrad()
      await errorOf('ERR_INDEX_RANGE', () => device.synchronize())
      expect(await state(run)).toEqual(before)

      // The run continues as one without the faulty batch.
      const undisturbed = make()
      accumulate(undisturbed)
      undisturbed.optimizer.step()
      for (const r of [run, undisturbed]) {
        r.optimizer.zeroGrad()
        accumulate(r)
        r.optimizer.step()
      }
      expect((await state(run)).values).toEqual((await state(undisturbed)).values)
    })

    test('undoes the clipping that it voided', async () => {
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

// device.capture(): what it refuses, what it keeps and frees, and what is read from it.

import { describe, expect, test } from 'vitest'
import {
  AdamW,
  type Device,
  MemoryLayer,
  openDevice,
  ops,
  SlotCounter,
  type Tensor,
  ValueTable,
} from '../lib/index.js'
import { Dropout, Linear } from '../lib/nn/index.js'
import { onEveryDevice, testDevices } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { reportAll } from './support/faults.js'
import { settledMemory } from './support/garbage.js'
import { small, valuesOf } from './support/layers.js'

/** A memory layer with its optimizer. */
function trained(device: Device) {
  const layer = new MemoryLayer(device, small)
  const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
  const x = device.normal([7, 12], { seed: 2 })
  const backward = () => {
    const { output, context } = layer.forward(x)
    layer.backward(context, output).dispose()
    return output
  }
  const step = () => {
    const output = backward()
    optimizer.step()
    optimizer.zeroGrad()
    return output
  }
  return { layer, optimizer, x, backward, step }
}

onEveryDevice((device) => {
  describe('a call that can’t be captured is refused by name', () => {
    const t = trained(device)
    const other = openDevice('cpu', { threads: 1 })
    const counter = new SlotCounter(device, { slots: 36 })
    const indices = device.zeros([3], 'int32')
    const dropout = new Dropout(device)
    const cases: [string, () => unknown][] = [
      ['Tensor.data', () => t.x.data()],
      ['Tensor.dataSync', () => t.x.dataSync()],
      ['Tensor.bits', () => t.x.bits()],
      ['Tensor.write', () => t.x.write(new Float32Array(84))],
      ['device.tensor', () => device.tensor([1, 2])],
      ['Tensor.to', () => t.x.to(other)],
      ['device.synchronize', () => device.synchronize()],
      ['device.close', () => device.close()],
      ['MemoryLayer.usage', () => t.layer.usage()],
      ['MemoryLayer.forward', () => t.layer.forward(new Float32Array(12))],
      ['SlotCounter.add', () => counter.add(indices)],
      ['optimizer.lr', () => (t.optimizer.lr = 1)],
      ['Dropout.position', () => (dropout.position = 3)],
      ['new AdamW', () => new AdamW(t.layer.parameters(), { lr: 1 })],
      ['new parameter "keys"', () => new MemoryLayer(device, { ...small, values: t.layer.values })],
      ['new ValueTable', () => new ValueTable(device, { slots: 4, dim: 2 })],
      ['new parameter "weight"', () => new Linear(device, { inputDim: 2, outputDim: 2 })],
      ['device.capture', () => device.capture(() => {})],
    ]
    test.each(cases)('%s', async (name, call) => {
      const before = await valuesOf(t.layer.parameters())
      const { lr } = t.optimizer
      const allocated = await settledMemory(device)
      const message = await errorOf('ERR_UNSUPPORTED', () =>
        device.capture(() => {
          t.step()
          call()
        }),
      )
      expect(message).toContain(name)
      // caught or not, in a promise or not
      await errorOf('ERR_UNSUPPORTED', () =>
        device.capture(async () => {
          t.step()
          try {
            await call()
          } catch {}
        }),
      )
      expect(t.optimizer.lr).toBe(lr)
      expect(await valuesOf(t.layer.parameters())).toEqual(before)
      expect(await settledMemory(device)).toBe(allocated)
      expect(t.layer.values.pendingReads).toBe(0)
    })
  })

  test('after a capture that failed steps go on as if it had not been', async () => {
    const [plain, tried] = [trained(device), trained(device)]
    for (const fail of [() => expect.fail('of the user'), () => tried.x.dataSync()]) {
      expect(() =>
        device.capture(() => {
          tried.backward()
          fail()
        }),
      ).toThrow()
      plain.step()
      tried.step()
    }
    expect(await valuesOf(tried.layer.parameters())).toEqual(
      await valuesOf(plain.layer.parameters()),
    )
  })

  test('a context is spent in the capture that it was made in', async () => {
    const { layer, x } = trained(device)
    const { output, context } = layer.forward(x)
    await errorOf('ERR_UNSUPPORTED', () => device.capture(() => layer.backward(context, output)))
    layer.backward(context, output)
    const linear = new Linear(device, { inputDim: 12, outputDim: 2, seed: 1 })
    const y = ops.mean(linear.apply(x))
    await errorOf('ERR_UNSUPPORTED', () => device.capture(() => y.backward()))
    y.backward()
    using captured = device.capture(() => ops.mean(linear.apply(x)))
    await errorOf('ERR_UNSUPPORTED', () => captured.replay().backward())
  })

  test('a promise is refused', async () => {
    await errorOf('ERR_VALUE', () => device.capture(async () => {}))
    await errorOf('ERR_VALUE', () => device.capture(1 as never))
  })

  test('a table’s queue is empty at the beginning and at the end', async () => {
    const { optimizer, backward, step, layer } = trained(device)
    expect(await errorOf('ERR_UNSUPPORTED', () => device.capture(backward))).toMatch(/zeroGrad/)
    expect(layer.values.pendingReads).toBe(0)
    backward()
    await errorOf('ERR_UNSUPPORTED', () => device.capture(step))
    expect(layer.values.pendingReads).toBe(1)
    optimizer.zeroGrad()
    using captured = device.capture(step)
    backward()
    await errorOf('ERR_UNSUPPORTED', () => captured.replay())
    optimizer.zeroGrad()
    captured.replay()
  })

  test('what it makes has the value of the last replay, and none before the first', async () => {
    const x = device.tensor([1, 2, 3])
    using captured = device.capture(() => {
      const twice = ops.add(x, x)
      return { twice, rows: twice.rows(1, 2) }
    })
    const { twice, rows } = captured.replay()
    expect(Array.from(await twice.data())).toEqual([2, 4, 6])
    using never = device.capture(() => ops.add(x, x))
    void never
    let made: Tensor | undefined
    using fresh = device.capture(() => {
      made = ops.add(x, x)
    })
    expect(await errorOf('ERR_CONTEXT', () => made!.data())).toMatch(/replay/)
    const sum = ops.add(made!, x)
    await errorOf('ERR_CONTEXT', () => sum.data())
    fresh.replay()
    expect(Array.from(await made!.data())).toEqual([2, 4, 6])
    x.write([5, 6, 7])
    expect(Array.from(await twice.data())).toEqual([2, 4, 6])
    expect(captured.replay().twice).toBe(twice)
    const reads = [twice.data(), rows.data()]
    x.write([0, 0, 0])
    captured.replay()
    expect((await Promise.all(reads)).map((r) => Array.from(r))).toEqual([[10, 12, 14], [12]])
    await reportAll(device)
  })

  test('it works in memory of its own, which dispose() frees', async () => {
    const { step, layer, optimizer } = trained(device)
    const before = await settledMemory(device)
    const captured = device.capture(step)
    const output = captured.replay()
    const allocated = await settledMemory(device)
    const { reserved } = device.memory()
    expect(allocated).toBeGreaterThan(before)
    for (let i = 0; i < 20; i++) {
      captured.replay()
      expect(device.memory().allocated).toBe(allocated)
    }
    await device.synchronize()
    expect(device.memory().reserved).toBeLessThanOrEqual(reserved)
    const view = output.reshape([84])
    captured.dispose()
    captured.dispose()
    expect(captured.disposed).toBe(true)
    await errorOf('ERR_DISPOSED', () => output.data())
    await errorOf('ERR_DISPOSED', () => captured.replay())
    expect(Array.from(await view.data())).toHaveLength(84)
    view.dispose()
    expect(await settledMemory(device)).toBe(before)
    optimizer.dispose()
    layer.dispose()
  })

  test('what it uses must not be disposed', async () => {
    const { layer, optimizer, x, step } = trained(device)
    using captured = device.capture(step)
    x.dispose()
    await errorOf('ERR_DISPOSED', () => captured.replay())
    const other = trained(device)
    using second = device.capture(other.step)
    second.replay()
    other.layer.dispose()
    await errorOf('ERR_DISPOSED', () => second.replay())
    const third = trained(device)
    using last = device.capture(third.step)
    third.optimizer.dispose()
    await errorOf('ERR_DISPOSED', () => last.replay())
    layer.dispose()
    optimizer.dispose()
  })

  test('memory that the caller disposed inside is used again', async () => {
    const x = device.zeros([1 << 12])
    const chain = (disposes: boolean) => () => {
      let y = ops.add(x, x)
      for (let i = 0; i < 20; i++) {
        const next = ops.add(y, x)
        if (disposes) y.dispose()
        y = next
      }
      return y
    }
    const before = await settledMemory(device)
    using thrifty = device.capture(chain(true))
    const few = (await settledMemory(device)) - before
    using _wasteful = device.capture(chain(false))
    const many = (await settledMemory(device)) - before - few
    expect(few).toBeLessThan(many / 5)
    x.write(new Float32Array(1 << 12).fill(1))
    expect((await thrifty.replay().data())[7]).toBe(22)
  })

  test('a learning rate is checked at the replay', async () => {
    const { optimizer, step, layer } = trained(device)
    using captured = device.capture(step)
    const before = await valuesOf(layer.parameters())
    optimizer.lr = Number.NaN
    await errorOf('ERR_VALUE', () => captured.replay())
    expect(await valuesOf(layer.parameters())).toEqual(before)
    optimizer.lr = 0.1
    captured.replay()
    expect(await valuesOf(layer.parameters())).not.toEqual(before)
  })

  test('a tensor that it writes was written at each replay', async () => {
    const x = device.tensor([1, 2]).requireGrad()
    const y = device.tensor([3, 4])
    const target = device.zeros([2])
    using captured = device.capture(() => void target.copyFrom(y))
    const product = ops.sum(ops.mul(x, target))
    captured.replay()
    await errorOf('ERR_CONTEXT', () => product.backward())
    expect(Array.from(await target.data())).toEqual([3, 4])
  })

  test('an empty capture does nothing', () => {
    using nothing = device.capture(() => 5)
    expect(nothing.replay()).toBe(5)
  })

  test('a replay is one item of a profile on a GPU', async () => {
    const { step } = trained(device)
    using captured = device.capture(step)
    device.profile()
    captured.replay()
    await device.synchronize()
    device.profile()
    captured.replay()
    await device.synchronize()
    const profile = device.profile()
    if (device.kind === 'cpu') expect(profile['linear']?.calls).toBeGreaterThan(1)
    else expect(profile).toEqual({ replay: { calls: 1, milliseconds: expect.any(Number) } })
  })
})

test.each(testDevices)('a closed device on %s replays nothing', async (name) => {
  const device = openDevice(name, { threads: 1 })
  const x = device.zeros([4])
  const captured = device.capture(() => ops.add(x, x))
  captured.replay()
  await device.close()
  await errorOf('ERR_DEVICE', () => captured.replay())
  await errorOf('ERR_DEVICE', () => device.capture(() => {}))
  captured.dispose()
})

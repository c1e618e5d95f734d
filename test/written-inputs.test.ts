// What was written between a forward and its backward: the backward is refused.

import { describe, expect, test } from 'vitest'
import {
  type Device,
  MemoryLayer,
  ops,
  type Parameter,
  PeerLayer,
  Sgd,
  type Tensor,
} from '../lib/index.js'
import {
  Attention,
  CrossEntropy,
  FeedForward,
  Linear,
  MixtureOfExperts,
  RmsNorm,
} from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { failNext, stopFailing } from './support/failures.js'
import { reportAll } from './support/faults.js'
import { gradientsOf } from './support/layers.js'

// biome-ignore lint/suspicious/noExplicitAny: contexts of several kinds
type Layer = { forward(x: any): any; backward(context: any, dy: any): Tensor } & {
  parameters(): readonly Parameter[]
}

const memory = { inputDim: 8, heads: 1, knn: 4, nKeys: 4, keyDim: 8 }

const layers: Record<string, (d: Device) => Layer> = {
  MemoryLayer: (d) => new MemoryLayer(d, memory),
  'MemoryLayer with all options': (d) =>
    new MemoryLayer(d, { ...memory, outputGate: true, queryNorm: 'rms', dtype: 'bfloat16' }),
  'MemoryLayer with none': (d) => new MemoryLayer(d, { ...memory, gate: 'none' }),
  PeerLayer: (d) => new PeerLayer(d, memory),
  Linear: (d) => new Linear(d, { inputDim: 8, outputDim: 8 }),
  RmsNorm: (d) => new RmsNorm(d, { dim: 8 }),
  FeedForward: (d) => new FeedForward(d, { dim: 8, hiddenDim: 8 }),
  Attention: (d) => new Attention(d, { dim: 8, heads: 2 }),
  MixtureOfExperts: (d) => new MixtureOfExperts(d, { dim: 8, hiddenDim: 8, experts: 2 }),
}

const ones = new Float32Array(32).fill(1)

/** Every way to write to x, `[4, 8]`. */
const writes: Record<string, (x: Tensor) => void> = {
  write: (x) => x.write(ones),
  copyFrom: (x) => x.copyFrom(x.device.normal([4, 8], { seed: 9 })),
  'an output': (x) => ops.add(x.device.zeros([4, 8]), x.device.zeros([4, 8]), { out: x }),
  'a view of it': (x) => x.reshape([32]).write(ones),
  'some rows': (x) => x.rows(3, 4).write(ones.subarray(24)),
  'a sum in place': (x) => {
    const [dy, w] = [x.device.zeros([2, 4]), x.device.zeros([4, 8])]
    ops.linearBackward(dy, x.device.zeros([2, 8]), w, {
      needs: { x: false, weight: true, bias: false },
      into: { weight: x },
    })
  },
}

onEveryDevice((device) => {
  const input = () => device.normal([4, 8], { seed: 1 })
  const dy = () => device.normal([4, 8], { seed: 2 })

  describe.each(Object.entries(layers))('%s', (_, make) => {
    test('is refused, and changes nothing', async () => {
      const layer = make(device)
      const before = await gradientsOf(layer.parameters())
      for (const write of Object.values(writes)) {
        const x = input()
        const { context } = layer.forward(x)
        write(x)
        const message = await errorOf('ERR_CONTEXT', () => layer.backward(context, dy()))
        expect(message).toContain('"x" was written')
      }
      expect(await gradientsOf(layer.parameters())).toEqual(before)
    })

    test('names the parameter that a step has changed', async () => {
      const layer = make(device)
      const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
      layer.backward(layer.forward(input()).context, dy()).dispose()
      const { context } = layer.forward(input())
      optimizer.step()
      const message = await errorOf('ERR_CONTEXT', () => layer.backward(context, dy()))
      const named = /"([^"]+)" was written/.exec(message)![1]!
      expect(layer.parameters().map((p) => p.name)).toContain(named)
      layer.backward(layer.forward(input()).context, dy())
    })

    test('what does not touch the input is allowed', async () => {
      const layer = make(device)
      const wanted = await layer.backward(layer.forward(input()).context, dy()).data()
      const batches = device.normal([8, 8], { seed: 5 })
      const x = batches.rows(2, 6).copyFrom(input())
      const cases: [unknown, () => void][] = [
        [x, () => batches.rows(6, 8).write(ones.subarray(0, 16))],
        [x, () => batches.rows(0, 2).write(ones.subarray(0, 16))],
        [await input().data(), () => {}],
      ]
      const disposed = input()
      cases.push([disposed, () => disposed.dispose()])
      for (const [given, meanwhile] of cases) {
        const { output, context } = layer.forward(given)
        meanwhile()
        output.write(new Float32Array(output.size))
        const [p] = layer.parameters()
        if (p?.kind === 'dense') p.grad.write(new Float32Array(p.grad.size))
        expect(await layer.backward(context, dy()).data()).toEqual(wanted)
      }
      const numbers = Float32Array.from(ones)
      const { context } = layer.forward(numbers)
      numbers.fill(7)
      const of = layer.backward(context, dy())
      expect(await of.data()).toEqual(
        await layer.backward(layer.forward(ones).context, dy()).data(),
      )
    })

    test('a gradient has as many rows as the output', async () => {
      const layer = make(device)
      const { context } = layer.forward(input())
      const wrong = device.normal([8, 8], { seed: 2 })
      await errorOf('ERR_SHAPE', () => layer.backward(context, wrong))
      layer.backward(context, dy())
    })
  })

  test('a write that there is no memory for is none', async () => {
    const layer = new Linear(device, { inputDim: 8, outputDim: 8 })
    const x = input()
    const wanted = await layer.backward(layer.forward(x).context, dy()).data()
    for (const write of Object.values(writes)) {
      for (let after = 0; ; after++) {
        const { context } = layer.forward(x)
        await device.synchronize()
        failNext({ kind: 'malloc', after })
        let failed = false
        try {
          write(x)
        } catch {
          failed = true
        }
        stopFailing('malloc')
        if (!failed) {
          await reportAll(device) // the last to fail may have been on the device's own threads
          context.dispose()
          break
        }
        expect(await layer.backward(context, dy()).data()).toEqual(wanted)
      }
      x.copyFrom(input())
    }
  })

  test('many small writes elsewhere count as a write to everything', async () => {
    const layer = new Linear(device, { inputDim: 8, outputDim: 8 })
    const batches = device.normal([8, 8], { seed: 5 })
    const { context } = layer.forward(batches.rows(0, 4))
    for (let i = 0; i < 6; i++) batches.rows(4, 8).write(ones)
    await errorOf('ERR_CONTEXT', () => layer.backward(context, dy()))
  })

  test('the logits and the targets of a loss', async () => {
    const loss = new CrossEntropy(device)
    for (const written of ['logits', 'targets'] as const) {
      const logits = input()
      const targets = device.tensor(Int32Array.from([0, 1, 2, 3]))
      const { context } = loss.forward(logits, targets)
      if (written === 'logits') logits.write(ones)
      else targets.write(Int32Array.from([3, 2, 1, 0]))
      const message = await errorOf('ERR_CONTEXT', () => loss.backward(context))
      expect(message).toContain(`"${written}" was written`)
    }
  })

  test('what a lookup selected is read as a copy', async () => {
    const layer = new MemoryLayer(device, memory)
    const { context } = layer.forward(input())
    const { indices, weights } = context.lookup()
    indices.write(new Int32Array(indices.size).fill(99))
    weights.write(new Float32Array(weights.size))
    layer.backward(context, dy())
    const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
    const before = await layer.values.weight.data()
    optimizer.step()
    await device.synchronize()
    expect(await layer.values.weight.data()).not.toEqual(before)
  })

  test('a context is not taken for that of a later layer', async () => {
    for (let i = 0; i < 20; i++) {
      const first = new MemoryLayer(device, memory)
      const { context } = first.forward(input())
      first.dispose()
      const second = new MemoryLayer(device, memory)
      await errorOf('ERR_CONTEXT', () => second.backward(context, dy()))
      second.dispose()
    }
  })
})

// apply() and backward() must give what explicit contexts give, bit for bit.

import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import {
  type Device,
  MemoryLayer,
  noGrad,
  ops,
  type Parameter,
  PeerLayer,
  type Tensor,
} from '../../lib/index.js'
import {
  Attention,
  CrossEntropy,
  Embedding,
  FeedForward,
  Linear,
  MixtureOfExperts,
  RmsNorm,
} from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { gradientsOf } from '../support/layers.js'

const memory = { inputDim: 8, heads: 2, knn: 3, nKeys: 4, keyDim: 8, seed: 1 }

interface Layer {
  forward(x: Tensor): { output: Tensor; context: unknown }
  backward(context: unknown, dy: Tensor): Tensor
  infer(x: Tensor): Tensor
  apply(x: Tensor): Tensor
  parameters(): readonly Parameter[]
}

const layers: Record<string, (d: Device) => unknown> = {
  'Memory+': (d) => new MemoryLayer(d, memory),
  'MemoryLayer with everything': (d) =>
    new MemoryLayer(d, { ...memory, outputGate: true, queryNorm: 'rms', dtype: 'bfloat16' }),
  'MemoryLayer without a gate': (d) => new MemoryLayer(d, { ...memory, gate: 'none' }),
  PeerLayer: (d) => new PeerLayer(d, memory),
  Linear: (d) => new Linear(d, { inputDim: 8, outputDim: 8, seed: 1 }),
  'Linear without bias': (d) => new Linear(d, { inputDim: 8, outputDim: 8, bias: false, seed: 1 }),
  RmsNorm: (d) => new RmsNorm(d, { dim: 8 }),
  FeedForward: (d) => new FeedForward(d, { dim: 8, hiddenDim: 12, seed: 1 }),
  Attention: (d) => new Attention(d, { dim: 8, heads: 2, seed: 1 }),
  MixtureOfExperts: (d) => new MixtureOfExperts(d, { dim: 8, hiddenDim: 8, experts: 2, seed: 1 }),
}

onEveryDevice((device) => {
  const numbers = async (t: Tensor | undefined) => [...((await t?.data()) ?? [])]
  const random = (shape: number[], seed: number) => device.normal(shape, { seed })

  describe.each(Object.entries(layers))('%s', (_, make) => {
    test.each([[[6, 8]], [[2, 3, 8]]])('equals forward and backward, x %j', async (shape) => {
      const [explicit, recorded] = [make(device) as Layer, make(device) as Layer]
      const dy = random(shape, 2)
      const { output, context } = explicit.forward(random(shape, 1))
      const dx = explicit.backward(context, dy)

      const x = random(shape, 1).requireGrad()
      const y = recorded.apply(x)
      expect(y.requiresGrad).toBe(true)
      y.backward(dy)

      expect(await numbers(y)).toEqual(await numbers(output))
      expect(await numbers(x.grad)).toEqual(await numbers(dx))
      expect(await gradientsOf(recorded.parameters())).toEqual(
        await gradientsOf(explicit.parameters()),
      )
      for (const p of recorded.parameters())
        if (p.kind === 'dense') expect(p.value.grad).toBe(p.grad)
    })

    test('inside of noGrad it infers; parameters learn though x needs no gradient', async () => {
      const layer = make(device) as Layer
      const x = random([6, 8], 1)
      const y = noGrad(() => layer.apply(x))
      expect(y.requiresGrad).toBe(false)
      expect(await numbers(y)).toEqual(await numbers(layer.infer(x)))
      const output = layer.forward(x).output
      expect([output.requiresGrad, layer.infer(x).requiresGrad]).toEqual([false, false])
      const dy = random([6, 8], 2)
      const other = make(device) as Layer
      other.backward(other.forward(x).context, dy)
      layer.apply(x).backward(dy)
      expect(x.grad).toBeUndefined()
      expect(await gradientsOf(layer.parameters())).toEqual(await gradientsOf(other.parameters()))
    })
  })

  test('a layer of the core is one crossing each way', () => {
    const layer = new MemoryLayer(device, memory)
    const x = random([6, 8], 1)
    const count = (body: () => unknown) => {
      const before = native.crossings()
      body()
      return native.crossings() - before - 1 // asking is one itself
    }
    expect(count(() => layer.forward(x))).toBe(1)
    expect(count(() => layer.apply(x))).toBe(1)
  })

  /** A block with a residual path, its loss, and what it learns. */
  function model(d: Device) {
    const embedding = new Embedding(d, { count: 11, dim: 8, seed: 1 })
    const norm = new RmsNorm(d, { dim: 8 })
    const block = new MemoryLayer(d, memory)
    const head = new Linear(d, { inputDim: 8, outputDim: 11, seed: 2 })
    const loss = new CrossEntropy(d)
    const modules = [embedding, norm, block, head]
    return {
      embedding,
      norm,
      block,
      head,
      loss,
      parameters: modules.flatMap((m) => m.parameters()),
    }
  }

  test('a model written once equals one written by hand, over two backwards', async () => {
    const [a, b] = [model(device), model(device)]
    const tokens = device.tensor(Int32Array.of(1, 4, 4, 10, 0, 7))
    const targets = device.tensor(Int32Array.of(4, 4, 10, 0, 7, -1))
    for (let step = 0; step < 2; step++) {
      const e = a.embedding.forward(tokens)
      const n = a.norm.forward(e.output)
      const m = a.block.forward(n.output)
      const x = ops.add(e.output, m.output)
      const l = a.head.forward(x)
      const c = a.loss.forward(l.output, targets)
      const dx = a.head.backward(l.context, a.loss.backward(c.context))
      const dn = a.norm.backward(n.context, a.block.backward(m.context, dx))
      a.embedding.backward(e.context, ops.add(dx, dn))

      const h = b.embedding.apply(tokens)
      const y = ops.add(h, b.block.apply(b.norm.apply(h)))
      const loss = b.loss.apply(b.head.apply(y), targets)
      loss.backward()

      expect(await numbers(loss)).toEqual(await numbers(c.loss))
      expect(await gradientsOf(b.parameters)).toEqual(await gradientsOf(a.parameters))
    }
  })
})

// A training loop that is written with apply() and backward() does not grow by a byte.

import { expect, test } from 'vitest'
import { AdamW, MemoryLayer, ops, PeerLayer, tidy } from '../../lib/index.js'
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
import { settledMemory } from '../support/garbage.js'

const memory = { inputDim: 16, heads: 2, knn: 3, nKeys: 4, keyDim: 8 }

onEveryDevice((device) => {
  function model() {
    const embedding = new Embedding(device, { count: 20, dim: 16 })
    const blocks = [
      new Attention(device, { dim: 16, heads: 2 }),
      new MemoryLayer(device, memory),
      new FeedForward(device, { dim: 16, hiddenDim: 16 }),
      new MixtureOfExperts(device, { dim: 16, hiddenDim: 16, experts: 2 }),
      new PeerLayer(device, memory),
    ]
    const norm = new RmsNorm(device, { dim: 16 })
    const head = new Linear(device, { inputDim: 16, outputDim: 20, weight: embedding.table })
    const criterion = new CrossEntropy(device)
    const modules = [embedding, ...blocks, norm, head]
    const parameters = modules.flatMap((m) => m.parameters())
    const loss = (tokens: Int32Array) => {
      const targets = device.tensor(tokens)
      let h = embedding.apply(tokens)
      for (const block of blocks) h = ops.add(h, block.apply(norm.apply(h)))
      const result = criterion.apply(head.apply(h), targets)
      targets.dispose()
      return result
    }
    return { loss, parameters, modules }
  }

  test.each([
    ['waiting for each step', 1, false],
    ['seldom waiting', 20, false],
    ['inside of tidy', 20, true],
  ])('500 steps, %s', async (_, wait, tidied) => {
    const { loss, parameters, modules } = model()
    const optimizer = new AdamW(parameters, { lr: 1e-3 })
    const tokens = Int32Array.from({ length: 12 }, (_, i) => (7 * i) % 20)
    const step = () => {
      const root = loss(tokens)
      root.backward()
      optimizer.step()
      optimizer.zeroGrad()
      return root
    }
    const run = () => {
      if (tidied) tidy(() => void step())
      else step().dispose()
    }
    for (let i = 0; i < 2; i++) run()
    const before = await settledMemory(device)
    const steps = device.kind === 'simt' ? 2 : 500
    for (let i = 1; i <= steps; i++) {
      run()
      if (i % wait !== 0 && i !== steps) continue
      await device.synchronize()
      expect(device.memory().allocated).toBe(before)
    }
    for (const m of [...modules, optimizer]) m.dispose() // else collected during the next test
  })
})

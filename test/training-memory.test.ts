// A training loop holds the same memory after each of 500 steps, whether it waits or not.

import { describe, expect, test } from 'vitest'
import { AdamW, clipGradNorm } from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { settledMemory } from './support/garbage.js'
import { TinyModel, tinyVocab } from './support/tiny-model.js'

onEveryDevice((device) => {
  const steps = device.kind === 'simt' ? 10 : 500

  describe.each([
    ['waits for each step', 1],
    ['seldom waits', 50],
    ['never waits', Infinity],
  ])('a loop that %s', (_, every) => {
    test('returns to the same byte', async () => {
      const model = new TinyModel(device)
      const optimizer = new AdamW(model.parameters(), { lr: 0.01 })
      const numbers = Int32Array.from({ length: 64 }, (_, i) => (i * 5) % tinyVocab)
      using tokens = device.tensor(numbers, [4, 16])
      const step = () => {
        using loss = model.loss(tokens, tokens)
        loss.backward()
        clipGradNorm(model.parameters(), 1).dispose()
        optimizer.step()
        optimizer.zeroGrad()
      }
      step()
      const allocated = await settledMemory(device)
      const { reserved } = device.memory()
      for (let i = 1; i <= steps; i++) {
        step()
        expect(device.memory().allocated, `after step ${i}`).toBe(allocated)
        if (i % every === 0) await device.synchronize()
      }
      await device.synchronize()
      expect(device.memory().allocated).toBe(allocated)
      // blocks that were cached for reuse, and no more of them for more steps
      expect(device.memory().reserved).toBeLessThan(reserved + 2 ** 22)
      // so that no garbage of one test is collected while another counts
      optimizer.dispose()
      model.dispose()
    })
  })
})

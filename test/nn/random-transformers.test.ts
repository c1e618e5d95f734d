// Decoders of random options: gradients against a float64 reference, generation against none with a
// cache, folders against what was saved.

import { join } from 'node:path'
import { expect, test } from 'vitest'
import { type Device, noGrad } from '../../lib/index.js'
import { Transformer } from '../../lib/nn/index.js'
import { logits, loss } from '../reference/transformer.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { temporaryFolder } from '../support/files.js'
import { dot } from '../support/finite-differences.js'
import { stateOfModel } from '../support/model-numbers.js'
import { gradientOf } from '../support/optimizer.js'
import { integers, uniform } from '../support/random.js'
import { randomDecoder } from '../support/random-decoders.js'

const folder = temporaryFolder()

/** Large embeddings, so that the logits of tokens and the scores of keys differ clearly. */
function make(device: Device, seed: number): Transformer {
  const model = new Transformer(device, randomDecoder(seed))
  const rows = model.stateDict()['model.embed_tokens.weight']!
  rows.copyFrom(device.normal(rows.shape, { seed }))
  return model
}

onEveryDevice((device) => {
  const seeds = Array.from({ length: device.kind === 'cpu' ? 40 : 4 }, (_, seed) => seed)

  test('logits, loss and the slope along a direction of every parameter', async () => {
    for (const seed of seeds) {
      using model = make(device, seed)
      const { vocabSize, contextLength: time } = model.config
      const state = await stateOfModel(model)
      const batch = { tokens: integers(2 * time, 0, vocabSize, seed), batch: 2 }
      const targets = integers(2 * time, -1, vocabSize, seed + 1)
      targets[0] = 0
      using tokens = device.tensor(batch.tokens, [2, time])
      using wanted = device.tensor(targets, [2, time])
      using result = noGrad(() => model.apply(tokens))
      const expected = logits(state, model.config, batch).logits
      expectClose(`logits, seed ${seed}`, await result.data(), expected, 1e-5)

      using total = model.loss(tokens, wanted)
      const scalar = loss(state, model.config, batch, targets)
      expectClose(`loss, seed ${seed}`, await total.data(), [scalar], 1e-5)
      total.backward()
      const gradients = await Promise.all(model.parameters().map(gradientOf))
      const largest = Math.max(...gradients.map((g) => Math.sqrt(dot(g, g))))
      for (const [i, { name }] of model.parameters().entries()) {
        const direction = uniform(gradients[i]!.length, seed)
        const along = (step: number) => {
          const moved = Float64Array.from(state[name]!, (v, j) => v + step * direction[j]!)
          return loss({ ...state, [name]: moved }, model.config, batch, targets)
        }
        const slope = (along(1e-5) - along(-1e-5)) / 2e-5
        const scale = Math.max(Math.sqrt(dot(gradients[i]!, gradients[i]!)), 1e-2 * largest, 1e-3)
        expectClose(`${name}, seed ${seed}`, [dot(gradients[i]!, direction)], [slope], 5e-5, scale)
      }
    }
  })

  test('greedy tokens are those without a cache, also of several prompts at once', async () => {
    for (const seed of seeds) {
      using model = make(device, seed).eval()
      const { vocabSize, contextLength } = model.config
      const prompts = [1, 3, 2].map((n) => [...integers(n, 0, vocabSize, seed + n)])
      const options = { temperature: 0, maxTokens: contextLength - 3 }
      const got: number[][] = prompts.map(() => [])
      for await (const step of model.generate(prompts, options))
        for (const [i, token] of step.entries()) got[i]!.push(token)
      for (const [i, prompt] of prompts.entries()) {
        const tokens = [...prompt]
        while (tokens.length < prompt.length + options.maxTokens) {
          using all = noGrad(() => model.apply(tokens))
          const last = (await all.data()).subarray(-vocabSize)
          tokens.push(last.indexOf(Math.max(...last)))
        }
        expect(got[i], `seed ${seed}`).toEqual(tokens.slice(prompt.length))
      }
    }
  })

  test('a folder gives back what was saved', async () => {
    for (const seed of seeds) {
      using model = make(device, seed)
      const path = join(folder, `${device.kind}-${seed}`)
      await model.save(path)
      using again = await Transformer.load(path, { device })
      expect({ ...again.config, seed }).toEqual(model.config)
      expect(await stateOfModel(again)).toEqual(await stateOfModel(model))
    }
  })
})

test('the options are of every kind', () => {
  const options = Array.from({ length: 60 }, (_, seed) => randomDecoder(seed))
  const kinds = options.flatMap(({ layers, feedForward }) =>
    Array.from(
      { length: layers },
      (_, l) => (feedForward as (l: number) => { kind: string })(l).kind,
    ),
  )
  expect(new Set(kinds).size).toBe(6)
  expect(options.some((o) => o.memory?.beside)).toBe(true)
  expect(magnitude(options.map((o) => o.memory?.layers.length ?? 0))).toBeGreaterThan(1)
})

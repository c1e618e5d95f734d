// Llama decoders of random weights, computed in float64 from the architecture's published
// description: logits, loss, every gradient, greedy tokens.

import { expect, test } from 'vitest'
import { Transformer } from '../../lib/nn/index.js'
import { logits, loss } from '../reference/transformer.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { golden } from '../support/golden.js'

const folder = (name: string) => new URL(name, import.meta.url).pathname

onEveryDevice((device) => {
  test.each(['llama-tiny', 'llama-tied'])('%s', async (name) => {
    using model = await Transformer.load(folder(name), { device })
    const { tensors } = golden(`${name}/expected`)
    const upload = (key: string) => device.tensor(tensors[key]!.data, tensors[key]!.shape)
    const tokens = upload('tokens')

    const got = model.apply(tokens)
    expect(got.shape).toEqual(tensors['logits']!.shape)
    expectClose('logits', await got.data(), tensors['logits']!.data, 1e-5)

    const result = model.loss(tokens, upload('targets'))
    expectClose('loss', await result.data(), tensors['loss']!.data, 1e-5)
    result.backward()
    const gradients = Object.keys(tensors).filter((key) => key.endsWith('.grad'))
    expect(model.parameters().map((p) => `${p.name}.grad`)).toEqual(
      expect.arrayContaining(gradients),
    )
    expect(model.parameters().length).toBe(gradients.length)
    for (const p of model.parameters()) {
      const gradient = p.kind === 'dense' ? p.grad : p.grad.toDense()
      const key = `${p.name}.grad`
      expectClose(key, await gradient.data(), tensors[key]!.data, 2e-5)
    }

    const greedy = Array.from(tensors['greedy']!.data)
    const prompt = greedy.slice(0, 4)
    const options = { temperature: 0, maxTokens: greedy.length - 4 }
    const tokensOut: number[] = []
    for await (const token of model.generate(prompt, options)) tokensOut.push(token)
    expect([...prompt, ...tokensOut]).toEqual(greedy)
  })

  test('the reference agrees with the files too', async () => {
    using model = await Transformer.load(folder('llama-tiny'), { device })
    const { tensors } = golden('llama-tiny/expected')
    const weights = golden('llama-tiny/model').tensors
    const state = Object.fromEntries(Object.entries(weights).map(([key, t]) => [key, t.data]))
    const batch = { tokens: tensors['tokens']!.data, batch: tensors['tokens']!.shape[0]! }
    expectClose('logits', logits(state, model.config, batch).logits, tensors['logits']!.data, 1e-6)
    const total = loss(state, model.config, batch, tensors['targets']!.data)
    expectClose('loss', [total], tensors['loss']!.data, 1e-6)
  })
})

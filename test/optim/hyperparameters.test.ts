// Numbers that would turn parameters into NaN are refused before anything changes.

import { describe, expect, test } from 'vitest'
import { Adagrad, AdamW, RowwiseAdagrad, Sgd } from '../../lib/index.js'
import { Embedding, Linear } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

const bad = [
  { lr: 1e39 },
  { lr: Infinity },
  { lr: Number.NaN },
  { lr: -1 },
  { lr: '1' },
  { lr: 1, weightDecay: 1e39 },
  { lr: 1e30, weightDecay: 1e30 },
  { lr: 1, weightDecay: -1 },
]
const badEps = [
  { lr: 1, eps: 0 },
  { lr: 1, eps: 1e-46 },
  { lr: 1, eps: 1e39 },
  { lr: 1, eps: -1 },
]
const badBetas = [
  { lr: 1, betas: [0.999999999, 0.9] },
  { lr: 1, betas: [0.9, 1 - 2 ** -30] },
  { lr: 1, betas: [-0.1, 0.9] },
  { lr: 1, betas: [Number.NaN, 0.9] },
  { lr: 1, betas: [0.9] },
  { lr: 1, betas: new Float32Array(2) },
  { lr: 3e38, betas: [0.9, 0.9] },
  { lr: 1, tableLr: 1e39 },
]

// The least eps, and the largest beta.
const [eps, beta] = [1e-44, 1 - 2 ** -24]

onEveryDevice((device) => {
  const make = () => {
    const linear = new Linear(device, { inputDim: 2, outputDim: 2 })
    const [weight, bias] = linear.parameters()
    if (weight?.kind === 'dense') weight.grad.write([1, 0, -2, 0.5])
    return { weight: weight!, bias: bias!, parameters: linear.parameters() }
  }

  describe.each([
    ['Sgd', Sgd, {}, bad],
    ['Adagrad', Adagrad, { eps }, [...bad, ...badEps]],
    ['RowwiseAdagrad', RowwiseAdagrad, { eps }, [...bad, ...badEps]],
    ['AdamW', AdamW, { eps, betas: [beta, beta] }, [...bad, ...badEps, ...badBetas]],
  ] as const)('%s', (_, Optimizer, extremes, wrong) => {
    test('refuses them when it is made, and when they are set later', async () => {
      const { parameters, weight } = make()
      for (const options of wrong)
        await errorOf('ERR_VALUE', () => new Optimizer(parameters, options as never))
      const optimizer = new Optimizer(parameters, { lr: 0.1, weightDecay: 1e10 })
      const before = await weight.value.data()
      for (const lr of [1e39, 1e30, Infinity, Number.NaN, -1, null, '1']) {
        optimizer.lr = lr as never
        await errorOf('ERR_VALUE', () => optimizer.step())
      }
      expect(await weight.value.data()).toEqual(before)
    })

    test('the extremes that it takes keep parameters finite', async () => {
      const { parameters, weight, bias } = make()
      const embedding = new Embedding(device, { count: 2, dim: 2 })
      const [rows] = embedding.parameters()
      const optimizer = new Optimizer([...parameters, rows!], { lr: 1e-3, ...extremes })
      for (const dy of [
        [0, 0],
        [1e-30, 0],
      ])
        embedding.backward(embedding.forward([0]).context, device.tensor(dy, [1, 2]))
      for (let step = 0; step < 3; step++) optimizer.step()
      for (const p of [weight, bias, rows!])
        expect((await p.value.data()).every((v) => Number.isFinite(v))).toBe(true)
    })
  })

  test('AdamW counts steps as far as an int32 goes', async () => {
    const { parameters, weight } = make()
    const optimizer = new AdamW(parameters, { lr: 0.1, betas: [0.9, 0.999] })
    const last = 2 ** 31 - 1
    optimizer.loadStateDict({
      ...optimizer.stateDict(),
      step: device.tensor([last], [1], 'int32'),
    })
    const before = await weight.value.data()
    for (let step = 0; step < 2; step++) optimizer.step()
    const after = await weight.value.data()
    // without bias correction the first steps are those of m = 0.1 g and v = 0.001 g^2
    const [m, v] = [0.1, 0.001]
    const one = (0.1 * m) / Math.sqrt(v)
    const two = (0.1 * (0.9 * m + m)) / Math.sqrt(0.999 * v + v)
    expect(before[0]! - after[0]!).toBeCloseTo(one + two, 5)
    expect(Array.from(await optimizer.stateDict()['step']!.data())).toEqual([last])
  })

  test.each([-1, -5, -(2 ** 31)])('a count of %i steps counts as none', async (step) => {
    const { parameters, weight } = make()
    const optimizer = new AdamW(parameters, { lr: 0.1 })
    const count = device.tensor([step], [1], 'int32')
    optimizer.loadStateDict({ ...optimizer.stateDict(), step: count })
    const before = await weight.value.data()
    optimizer.step()
    expect(before[0]! - (await weight.value.data())[0]!).toBeCloseTo(0.1, 5)
  })

  test('a step that is no int32 is refused', async () => {
    const optimizer = new AdamW(make().parameters, { lr: 0.1 })
    for (const step of [device.tensor([1.5]), device.zeros([2], 'int32'), 3, null]) {
      const state = { ...optimizer.stateDict(), step: step as never }
      await errorOf('ERR_STATE_DICT', () => optimizer.loadStateDict(state))
    }
  })
})

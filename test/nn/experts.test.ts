// Mixtures of experts, in which only chosen pairs of token and expert are computed.

import { expect, test } from 'vitest'
import { noGrad, ops, type Tensor } from '../../lib/index.js'
import {
  FeedForward,
  MixtureOfExperts,
  plan,
  TokenChoiceExperts,
  Transformer,
} from '../../lib/nn/index.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'

onEveryDevice((device) => {
  const sizes = { dim: 6, hiddenDim: 10, experts: 4 }

  /** y and the gradients of x and of the balanced loss, by every expert on every token. */
  function everyExpert(moe: TokenChoiceExperts, x: Tensor, { k, balance }: Record<string, number>) {
    const state = moe.stateDict()
    const value = (name: string) => noGrad(() => state[name]!.to('float32')).requireGrad()
    const router = value('router.weight')
    const probabilities = ops.softmax(ops.linear(x, router))
    const { indices } = ops.topK(probabilities, k!)
    const [T = 0, E = 0] = probabilities.shape
    const chosenIds = indices.dataSync()
    const chosen = new Float32Array(T * E)
    chosenIds.forEach((e, i) => {
      chosen[Math.floor(i / k!) * E + e] = 1
    })
    const mask = device.tensor(chosen, [T, E])
    const gates = ops.mul(probabilities, mask)
    const parameters: Record<string, Tensor> = { 'router.weight': router }
    let y: Tensor | undefined
    for (let e = 0; e < E; e++) {
      const own = Object.fromEntries(
        ['w1.weight', 'w1.bias', 'w2.weight', 'w2.bias'].map((n) => {
          const p = value(`experts.${e}.${n}`)
          parameters[`experts.${e}.${n}`] = p
          return [n, p]
        }),
      )
      const h = ops.gelu(ops.linear(x, own['w1.weight']!, own['w1.bias']))
      const output = ops.linear(h, own['w2.weight']!, own['w2.bias'])
      const term = ops.mul(output, ops.slice(gates, { begin: [0, e], end: [undefined, e + 1] }))
      y = y ? ops.add(y, term) : term
    }
    const means = ops.mul(ops.mean(mask, { axes: 0 }), ops.mean(probabilities, { axes: 0 }))
    const loss = ops.mul(ops.sum(means).reshape([1]), (balance! * E) / k!)
    return { y: y!, loss, parameters }
  }

  test.each([
    [1, 9],
    [2, 30],
    [4, 5],
  ])('%i of 4 experts a token, %i tokens: as every expert on every token', async (k, T) => {
    const balance = 0.3
    using moe = new TokenChoiceExperts(device, { ...sizes, expertsPerToken: k, balance, seed: k })
    const numbers = await device.normal([T, 6], { seed: 1 }).data()
    const dy = device.normal([T, 6], { seed: 2 })
    const one = device.tensor([1])
    const x = device.tensor(numbers, [T, 6]).requireGrad()
    const same = device.tensor(numbers, [T, 6]).requireGrad()

    const found = moe.applyBalanced(x)
    const wanted = everyExpert(moe, same, { k, balance })
    expectClose('y', await found.y.data(), await wanted.y.data(), 1e-6)
    expectClose('loss', await found.loss.data(), await wanted.loss.data(), 1e-6)
    ops.add(ops.sum(ops.mul(found.y, dy)).reshape([1]), found.loss).backward(one)
    ops.add(ops.sum(ops.mul(wanted.y, dy)).reshape([1]), wanted.loss).backward(one)
    expectClose('dx', await x.grad!.data(), await same.grad!.data(), 1e-5)
    for (const { name, grad } of moe.parameters()) {
      const gradient = wanted.parameters[name]!.grad!
      expectClose(name, await (grad as Tensor<'float32'>).data(), await gradient.data(), 1e-5)
    }
  })

  test('a token’s output depends on no other, and memory does not grow', async () => {
    using moe = new TokenChoiceExperts(device, { ...sizes, seed: 1 })
    const x = device.normal([12, 6], { seed: 3 })
    const all = await moe.apply(x).data()
    const alone = await moe.apply(x.rows(7, 8)).data()
    expectClose('alone', alone, all.slice(42, 48), 1e-6)
    const allocated: number[] = []
    for (let step = 0; step < 3; step++) {
      const { y, loss } = moe.applyBalanced(x)
      const total = ops.add(ops.sum(y).reshape([1]), loss)
      total.backward()
      total.dispose()
      await device.synchronize()
      allocated.push(device.memory().allocated)
    }
    expect(allocated[2]).toBe(allocated[1])
  })

  test('names, shapes and first weights are those of feed-forwards in a list', async () => {
    using moe = new TokenChoiceExperts(device, { ...sizes, seed: 5 })
    const state = moe.stateDict()
    const names = ['w1.weight', 'w1.bias', 'w2.weight', 'w2.bias']
    expect(Object.keys(state)).toEqual([
      'router.weight',
      ...[0, 1, 2, 3].flatMap((e) => names.map((name) => `experts.${e}.${name}`)),
    ])
    using choice = new MixtureOfExperts(device, { ...sizes, seed: 5 })
    expect(Object.keys(choice.stateDict())).toEqual(Object.keys(state))
    device.seeds.restart(5)
    device.seeds.next() // the router's
    const { dim, hiddenDim } = sizes
    for (let e = 0; e < 4; e++) {
      using expert = new FeedForward(device, { dim, hiddenDim })
      for (const [name, value] of Object.entries(expert.stateDict()))
        expect(await state[`experts.${e}.${name}`]!.data(), name).toEqual(await value.data())
    }
    using other = new TokenChoiceExperts(device, { ...sizes, seed: 6 })
    other.loadStateDict(state)
    const x = device.normal([5, 6], { seed: 1 })
    expect(await other.apply(x).data()).toEqual(await moe.apply(x).data())
  })

  test.each(['token', 'expert'] as const)('%s choice: plan() and describe() agree', (routing) => {
    const feedForward = {
      kind: 'moe' as const,
      experts: 5,
      hiddenDim: 10,
      expertsPerToken: 2,
      routing,
    }
    const options = {
      ...{ vocabSize: 20, dim: 8, layers: 2, heads: 2, contextLength: 8 },
      feedForward,
    }
    using model = new Transformer(device, options)
    const rows = model.describe().split('\n')
    const described = rows
      .filter((line) => line.includes('.mlp.'))
      .reduce((sum, line) => sum + Number(line.trim().split(/\s+/).at(-1)!.replace(/,/g, '')), 0)
    const { multiplyAddsPerToken } = plan(options)
    expect(described).toBe(multiplyAddsPerToken.feedForward)
    expect(described).toBe(2 * (8 * 5 + 2 * 2 * 8 * 10))
  })
})

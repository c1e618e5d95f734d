import { describe, expect, test } from 'vitest'
import { AdamW, type Device } from '../../lib/index.js'
import { Transformer, type TransformerOptions } from '../../lib/nn/index.js'
import { type Batch, logits, loss } from '../reference/transformer.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { expectGradient } from '../support/finite-differences.js'
import { settledMemory } from '../support/garbage.js'
import { stateOfModel } from '../support/model-numbers.js'
import { gradientOf } from '../support/optimizer.js'
import { integers } from '../support/random.js'

const base = { vocabSize: 7, dim: 8, layers: 2, heads: 2, contextLength: 6, seed: 4 }
const lookups = { nKeys: 4, heads: 2, knn: 3, keyDim: 4 }
const swiglu = { kind: 'swiglu', hiddenDim: 6 } as const
const experts = { kind: 'moe', experts: 3, hiddenDim: 5 } as const

const models: Record<string, Partial<TransformerOptions>> = {
  swiglu: { feedForward: swiglu, kvHeads: 1 },
  'swiglu, tied': { feedForward: swiglu, tieEmbeddings: true },
  'gelu, wide heads, no rope': {
    feedForward: { kind: 'gelu', hiddenDim: 5 },
    headDim: 6,
    rope: false,
  },
  'experts that tokens choose': { feedForward: { ...experts, balance: 0.5 }, layers: 1 },
  'experts that choose tokens': {
    feedForward: { ...experts, routing: 'expert', expertsPerToken: 1.5 },
    layers: 1,
    tieEmbeddings: true,
  },
  peer: { feedForward: { kind: 'peer', ...lookups }, layers: 1 },
  memory: { feedForward: { kind: 'memory', ...lookups, outputGate: true }, layers: 1 },
  'shared memory, tied': {
    feedForward: { kind: 'none' },
    memory: { layers: [0, 1], ...lookups, valueDim: 4 },
    tieEmbeddings: true,
  },
  'memory beside': {
    feedForward: swiglu,
    memory: { layers: [1], ...lookups, gate: 'none', beside: true },
    rope: { theta: 100 },
  },
  'attention alone': { feedForward: { kind: 'none' } },
}

const make = (device: Device, name: string) =>
  new Transformer(device, { ...base, ...models[name]! } as TransformerOptions)

const batch: Batch = { tokens: integers(10, 0, 7, 3), batch: 2 }
const targets = integers(10, 0, 7, 4)
targets[2] = -100
targets[7] = -1

onEveryDevice((device) => {
  const tokens = () => device.tensor(Int32Array.from(batch.tokens), [2, 5])
  const wanted = () => device.tensor(targets, [2, 5])

  describe.each(Object.keys(models))('%s', (name) => {
    test('logits, loss and every gradient equal the reference', async () => {
      using model = make(device, name)
      const state = await stateOfModel(model)
      const { logits: expected } = logits(state, model.config, batch)
      const got = model.apply(tokens())
      expect(got.shape).toEqual([2, 5, 7])
      expectClose('logits', await got.data(), expected, 1e-5)
      got.dispose()
      const result = model.loss(tokens(), wanted())
      const total = loss(state, model.config, batch, targets)
      expectClose('loss', await result.data(), [total], 1e-5)
      result.backward()
      for (const p of model.parameters()) {
        const moved = (x: Float64Array) =>
          loss({ ...state, [p.name]: x }, model.config, batch, targets)
        expectGradient(p.name, await gradientOf(p), moved, state[p.name]!, 2e-5)
      }
    })

    test('memory after each step returns to the same byte', async () => {
      using model = make(device, name)
      const optimizer = new AdamW(model.parameters(), { lr: 1e-2 })
      const sizes: number[] = []
      await settledMemory(device)
      for (let step = 0; step < 4; step++) {
        using input = tokens()
        using output = wanted()
        using result = model.loss(input, output)
        result.backward()
        optimizer.step()
        optimizer.zeroGrad()
        await device.synchronize()
        sizes.push(device.memory().allocated)
      }
      expect(sizes.slice(2)).toEqual([sizes[1], sizes[1]])
    })
  })

  test('one sequence, as numbers too, has two axes less', async () => {
    using model = make(device, 'swiglu')
    const numbers = Array.from(batch.tokens).slice(0, 5)
    const of = model.apply(numbers)
    expect(of.shape).toEqual([5, 7])
    const whole = await model.apply(tokens()).data()
    expectClose('logits', await of.data(), whole.slice(0, 35), 1e-6)
    const loss1 = model.loss(numbers, Array.from(targets.slice(0, 5)))
    const loss2 = model.loss(
      device.tensor(Int32Array.from(numbers)),
      device.tensor(targets.slice(0, 5)),
    )
    expect(await loss1.data()).toEqual(await loss2.data())
  })

  test('the loss of a batch never holds the logits of all its tokens', async () => {
    const vocabSize = 4096
    using model = new Transformer(device, {
      ...base,
      vocabSize,
      layers: 1,
      contextLength: 64,
      feedForward: { kind: 'none' },
    })
    const rows = 4 * 64
    const input = device.tensor(integers(rows, 0, vocabSize, 1), [4, 64])
    await device.synchronize()
    const before = device.memory()
    const logitBytes = rows * vocabSize * 4
    const allocated = before.peak - before.allocated
    model.loss(input, input).backward()
    await device.synchronize()
    if (allocated < logitBytes / 2)
      expect(device.memory().peak - before.allocated).toBeLessThan(logitBytes)
  })

  test('a step lowers the loss, and dropout changes it in training alone', async () => {
    using model = new Transformer(device, { ...base, feedForward: swiglu, dropout: 0.2 })
    const optimizer = new AdamW(model.parameters(), { lr: 1e-2 })
    const losses: number[] = []
    for (let step = 0; step < 30; step++) {
      using result = model.loss(tokens(), wanted())
      result.backward()
      losses.push((await result.data())[0]!)
      optimizer.step()
      optimizer.zeroGrad()
    }
    expect(losses.at(-1)!).toBeLessThan(0.7 * losses[0]!)
    const evaluate = async () => (await model.loss(tokens(), wanted()).data())[0]
    expect(await evaluate()).not.toBe(await evaluate())
    model.eval()
    expect(await evaluate()).toBe(await evaluate())
  })

  test('two models of one seed are one, others are not', async () => {
    const numbers = async (seed?: number) => {
      using model = new Transformer(device, { ...base, seed } as TransformerOptions)
      return (await stateOfModel(model))['model.layers.1.self_attn.q_proj.weight']
    }
    expect(await numbers(3)).toEqual(await numbers(3))
    expect(await numbers(3)).not.toEqual(await numbers(4))
    expect(await numbers()).not.toEqual(await numbers())
  })

  test('tokens and targets are checked', async () => {
    using model = make(device, 'swiglu')
    const outside = await errorOf('ERR_INDEX_RANGE', () => model.apply([0, 7]))
    expect(outside).toContain('"tokens"[1]')
    expect(outside).toContain('vocabSize 8')
    const tensor = () => model.apply(device.tensor(Int32Array.of(0, 7))).data()
    await errorOf('ERR_INDEX_RANGE', tensor)
    const long = await errorOf('ERR_VALUE', () => model.apply(new Int32Array(7)))
    expect(long).toContain('contextLength 6')
    expect(long).toContain('contextLength 7')
    await errorOf('ERR_SHAPE', () => model.loss([1, 2], [1]))
    await errorOf('ERR_SHAPE', () => model.loss([], []))
    await errorOf('ERR_DTYPE', () => model.apply(device.zeros([2])))
    await errorOf('ERR_SHAPE', () => model.apply(device.zeros([1, 1, 1], 'int32')))
    const ignored = await errorOf('ERR_VALUE', () => model.loss([1, 2], [-1, -100]))
    expect(ignored).toContain('at least one that counts')
    const late = model.loss([1, 2], device.tensor(Int32Array.of(-1, -100)))
    await errorOf('ERR_VALUE', () => late.data())
    const own = model.loss([1, 2], [5, 3], { ignoreIndex: 5 })
    expect(await own.data()).toEqual(await model.loss([1, 2], [-1, 3]).data())
  })

  test('a type that the device does not compute is refused', async () => {
    if (device.kind === 'cpu')
      await errorOf('ERR_UNSUPPORTED', () => new Transformer(device, { ...base, compute: 'tf32' }))
    const compute = 'float16' as 'tf32'
    await errorOf('ERR_VALUE', () => new Transformer(device, { ...base, compute }))
  })

  test('describe() names every parameter and counts', () => {
    using model = make(device, 'shared memory, tied')
    const rows = model.describe().split('\n')
    for (const { name } of model.parameters())
      expect(rows.filter((line) => line.startsWith(`${name} `)).length).toBe(1)
    const head = rows.find((line) => line.startsWith('lm_head.weight'))!
    expect(head.split(/ {2,}/).slice(1)).toEqual(['shared', '[7, 8]', '0', '0', '56'])
    expect(rows.at(-1)).toContain(model.countParameters().toLocaleString('en-US'))
  })
})

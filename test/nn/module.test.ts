import { describe, expect, test } from 'vitest'
import {
  type Device,
  MemoryLayer,
  ops,
  PeerLayer,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import {
  Dropout,
  Embedding,
  FeedForward,
  Linear,
  MixtureOfExperts,
  Module,
  Residual,
  RmsNorm,
  Sequential,
} from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { settledMemory } from '../support/garbage.js'

const dim = 4
const memoryOptions = { inputDim: dim, nKeys: 3, heads: 2, knn: 2, keyDim: 4 }

class Block extends Module {
  norm = new RmsNorm(this.device, { dim })
  memory: MemoryLayer
  dropout = new Dropout(this.device, { p: 0.5 })

  constructor(device: Device, values?: ValueTable) {
    super(device)
    this.memory = new MemoryLayer(device, { ...memoryOptions, ...(values && { values }) })
  }

  apply(x: Tensor): Tensor {
    return ops.add(x, this.dropout.apply(this.memory.apply(this.norm.apply(x))))
  }
}

class Model extends Module {
  blocks: Block[]
  heads: Record<string, Linear>
  width = dim

  constructor(device: Device, options?: { seed?: number }) {
    super(device, options)
    const first = new Block(device)
    this.blocks = [first, new Block(device, first.memory.values)]
    this.heads = {
      small: new Linear(device, { inputDim: dim, outputDim: 2 }),
      large: new Linear(device, { inputDim: dim, outputDim: 5, bias: false }),
    }
  }

  apply(x: Tensor): Tensor {
    return this.heads['small']!.apply(this.blocks.reduce((y, block) => block.apply(y), x))
  }
}

const memoryNames = [
  'keys',
  'value_proj.weight',
  'value_proj.bias',
  'swilu_projection.weight',
  'swilu_projection.bias',
  'query_proj.query_mlps.0.weight',
  'query_proj.query_mlps.0.bias',
]

onEveryDevice((device) => {
  test('parameters have the paths to them, and shared ones stand once', () => {
    using model = new Model(device)
    const names = model.parameters().map(({ name }) => name)
    expect(new Set(names)).toEqual(
      new Set([
        'blocks.0.norm.weight',
        ...memoryNames.map((name) => `blocks.0.memory.${name}`),
        'blocks.0.memory.values.weight',
        'blocks.1.norm.weight',
        ...memoryNames.map((name) => `blocks.1.memory.${name}`),
        'heads.small.weight',
        'heads.small.bias',
        'heads.large.weight',
      ]),
    )
    expect(Object.keys(model.stateDict())).toEqual(names)
    const sizes = model.parameters().map(({ value }) => value.size)
    expect(model.countParameters()).toBe(sizes.reduce((a, b) => a + b))
  })

  test('a state dict loads whole or not at all', async () => {
    using model = new Model(device, { seed: 1 })
    using other = new Model(device, { seed: 2 })
    const x = device.normal([3, dim], { seed: 5 })
    const before = await other.eval().apply(x).data()
    const state = model.stateDict()
    const { 'heads.small.bias': bias, ...missing } = state
    await errorOf('ERR_STATE_DICT', () => other.loadStateDict(missing))
    const wrong = { ...state, 'heads.small.bias': device.zeros([3]) }
    await errorOf('ERR_STATE_DICT', () => other.loadStateDict(wrong))
    await errorOf('ERR_STATE_DICT', () => other.loadStateDict({ ...state, more: bias! }))
    expect(await other.apply(x).data()).toEqual(before)
    const published = state['blocks.0.memory.keys']!.reshape([12, 2])
    other.loadStateDict({ ...state, 'blocks.0.memory.keys': published })
    expect(await other.apply(x).data()).toEqual(await model.eval().apply(x).data())
  })

  test('a table of another owner may be left out, and outlives the module', async () => {
    using table = new ValueTable(device, { slots: 9, dim })
    const block = new Block(device, table)
    const { 'memory.values.weight': weight, ...rest } = block.stateDict()
    expect(weight).toBe(table.weight)
    block.loadStateDict(rest)
    await errorOf('ERR_STATE_DICT', () => block.loadStateDict({}))
    block.dispose()
    expect(block.memory.parameters()[0]!.value.disposed).toBe(true)
    expect(table.weight.disposed).toBe(false)
  })

  test('train and eval reach every module; dropout drops in training alone', async () => {
    using model = new Model(device)
    const x = device.normal([8, dim], { seed: 1 })
    expect(model.training).toBe(true)
    const [first, second] = [await model.apply(x).data(), await model.apply(x).data()]
    expect(first).not.toEqual(second)
    model.eval()
    expect(model.blocks[1]!.dropout.training).toBe(false)
    expect(await model.apply(x).data()).toEqual(await model.apply(x).data())
    expect(model.train().blocks[0]!.dropout.training).toBe(true)
  })

  test('a module frees all that it made', async () => {
    const before = await settledMemory(device)
    new Model(device).dispose()
    await device.synchronize()
    expect(device.memory().allocated).toBe(before)
  })

  describe('seeds', () => {
    const makers: Record<string, (device: Device, seed?: number) => Module | MemoryLayer> = {
      Linear: (d, seed) => new Linear(d, { inputDim: 4, outputDim: 4, ...option(seed) }) as never,
      Embedding: (d, seed) => new Embedding(d, { count: 4, dim: 4, ...option(seed) }) as never,
      FeedForward: (d, seed) =>
        new FeedForward(d, { dim: 4, hiddenDim: 4, ...option(seed) }) as never,
      MixtureOfExperts: (d, seed) =>
        new MixtureOfExperts(d, { dim: 4, hiddenDim: 4, experts: 2, ...option(seed) }) as never,
      MemoryLayer: (d, seed) => new MemoryLayer(d, { ...memoryOptions, ...option(seed) }),
      PeerLayer: (d, seed) => new PeerLayer(d, { ...memoryOptions, ...option(seed) }) as never,
      Model: (d, seed) => new Model(d, option(seed)),
    }
    const option = (seed?: number) => (seed === undefined ? {} : { seed })
    const numbers = async (module: Module | MemoryLayer) => {
      const values = module.parameters().map(({ value }) => value.data())
      return (await Promise.all(values)).map((v) => Array.from(v))
    }

    test.each(Object.entries(makers))(
      '%s: no two start alike, but with a seed',
      async (_, make) => {
        const [a, b] = [await numbers(make(device)), await numbers(make(device))]
        const random = a.filter((values) => new Set(values).size > 1)
        expect(random.length).toBeGreaterThan(0)
        for (const [i, values] of a.entries())
          if (new Set(values).size > 1) expect(values).not.toEqual(b[i])
        expect(await numbers(make(device, 7))).toEqual(await numbers(make(device, 7)))
        expect(await numbers(make(device, 7))).not.toEqual(await numbers(make(device, 8)))
      },
    )

    test('matrices of one shape differ between kinds of layers', async () => {
      const modules = Object.values(makers).flatMap((make) => [make(device), make(device)])
      const seen = new Set<string>()
      for (const values of (await Promise.all(modules.map(numbers))).flat()) {
        if (new Set(values).size === 1) continue
        expect(seen.has(values.join())).toBe(false)
        seen.add(values.join())
      }
    })
  })

  test('Sequential and Residual', async () => {
    const linear = () => new Linear(device, { inputDim: dim, outputDim: dim })
    using model = new Sequential(device, [linear(), ops.gelu, new Residual(device, linear())])
    expect(Object.keys(model.stateDict())).toEqual([
      '0.weight',
      '0.bias',
      '2.inner.weight',
      '2.inner.bias',
    ])
    const x = device.normal([3, dim], { seed: 1 })
    const [first, , last] = model.parts as [Linear, unknown, Residual]
    const h = ops.gelu(first.infer(x))
    const wanted = ops.add(h, (last.inner as Linear).infer(h))
    expect(await model.apply(x).data()).toEqual(await wanted.data())
    await errorOf('ERR_VALUE', () => new Sequential(device, [3 as never]))
    await errorOf('ERR_VALUE', () => new Residual(device, {} as never))
  })

  test('describe() says what a model is made of', () => {
    class Small extends Module {
      rows = new Embedding(this.device, { count: 3000, dim })
      parts = [
        new Linear(this.device, { inputDim: dim, outputDim: 8 }),
        new RmsNorm(device, { dim }),
      ]
      same = this.parts[0]
    }
    using small = new Small(device)
    expect(small.describe()).toMatchInlineSnapshot(`
      "path            kind    shape      parameters   bytes  multiply-adds per token
      rows.weight     table   [3000, 4]      12,000  48,000                        0
      parts.0.weight  dense   [8, 4]             32     128                       32
      parts.0.bias    dense   [8]                 8      32                        0
      parts.1.weight  dense   [4]                 4      16                        0
      same.weight     shared  [8, 4]              0       0                       32
      same.bias       shared  [8]                 0       0                        0
      Small           total                  12,044  48,176                       64"
    `)
    using model = new Model(device)
    const rows = model.describe().split('\n')
    const row = (path: string) =>
      rows
        .find((line) => line.startsWith(`${path} `))!
        .split(/ {2,}/)
        .slice(1)
    expect(row('blocks.0.memory.values.weight')).toEqual(['table', '[9, 4]', '36', '144', '16'])
    expect(row('blocks.1.memory.values.weight')).toEqual(['shared', '[9, 4]', '0', '0', '16'])
    expect(row('blocks.0.memory.keys')).toEqual(['dense', '[2, 2, 3, 2]', '24', '96', '24'])
    expect(rows.at(-1)).toContain(String(model.countParameters()))
  })

  test('options are checked', async () => {
    await errorOf('ERR_DEVICE', () => new Model(undefined as never))
    await errorOf('ERR_VALUE', () => new Model(device, { seed: -1 }))
    const bad = () => new Dropout(device, { p: 1 })
    expect(await errorOf('ERR_VALUE', bad)).toContain('below 1')
  })
})

// Sizes of models, against the published counts, and by hand for a small one.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import type { MemoryLayersError } from '../../lib/errors.js'
import { AdamW, openDevice, RowwiseAdagrad } from '../../lib/index.js'
import { Transformer } from '../../lib/nn/index.js'
import { links, type PlanOptions, plan, planScaling } from '../../lib/nn/plan.js'
import { type Preset, type PresetName, presets } from '../../lib/nn/presets.js'
import {
  checkTransformerOptions,
  type TransformerOptions,
} from '../../lib/nn/transformer-config.js'

const root = fileURLToPath(new URL('../..', import.meta.url))

describe('published counts', () => {
  // shared/design: 32,000 symbols, untied. The "1B" model has 1,285M in its blocks.
  test.each([
    ['dense-373m', 373.8e6],
    ['dense-7b', 6738e6],
    ['dense-1.3b', 1416e6],
    ['dense-134m', 134e6],
    ['dense-720m', 720e6],
    ['dense-8b', 8.03e9],
  ] as const)('%s has %i parameters', (name, published) => {
    const { parameters } = plan(presets[name])
    expect(Math.abs(parameters.total / published - 1)).toBeLessThan(0.01)
  })

  test.each([
    ['memory-plus-373m-1m', 1024 ** 2 * 1024],
    ['memory-plus-1.3b-64m', 8192 ** 2 * 2048],
    ['memory-plus-8b-16m', 64 * 2 ** 30],
  ] as const)('the one table of %s has %i numbers', (name, numbers) => {
    expect(plan(presets[name]).parameters.tables).toBe(numbers)
  })

  test('every preset is a valid model, and says where its numbers come from', () => {
    for (const [name, preset] of Object.entries<Preset>(presets)) {
      expect(() => checkTransformerOptions(name, preset.config)).not.toThrow()
      expect(preset.source === 'derived', name).toBe(preset.derived.includes('dim'))
      const { lr, tableLr, betas, schedule, clip } = preset.recipe
      expect({ lr, tableLr, betas, clip }, name).toEqual({
        lr: 1e-4,
        tableLr: 1e-3,
        betas: [0.9, 0.95],
        clip: { maxNorm: 1, tables: 'apart' },
      })
      expect(schedule).toEqual({ warmup: 4000, total: 128_000, floor: 0.01 })
    }
  })
})

describe('what a small model allocates', () => {
  const base = { vocabSize: 512, dim: 128, layers: 3, heads: 4, contextLength: 64 }
  const memory = { layers: [0, 1], nKeys: 64, heads: 4, knn: 16, keyDim: 64 }
  const moe = { kind: 'moe', experts: 4, hiddenDim: 192 } as const
  test.each<[string, Partial<TransformerOptions>]>([
    ['swiglu', {}],
    ['swiglu, tied', { tieEmbeddings: true }],
    ['grouped-query heads', { kvHeads: 2 }],
    ['no rope', { rope: false }],
    ['gelu', { feedForward: { kind: 'gelu' } }],
    ['none', { feedForward: { kind: 'none' } }],
    ['token choice', { feedForward: { ...moe, expertsPerToken: 1 } }],
    ['expert choice', { feedForward: { ...moe, routing: 'expert' } }],
    ['peer', { feedForward: { kind: 'peer', nKeys: 32, heads: 2, knn: 8, keyDim: 64 } }],
    ['memory', { memory }],
    ['bfloat16 memory', { memory: { ...memory, shared: false, dtype: 'bfloat16' } }],
    ['memory beside', { memory: { ...memory, beside: true, gate: 'none', outputGate: true } }],
    ['odd widths, tied', { dim: 90, heads: 3, vocabSize: 333, tieEmbeddings: true }],
    [
      'more choices than experts',
      { feedForward: { ...moe, routing: 'expert', experts: 2, expertsPerToken: 3 } },
    ],
    ['narrow values', { memory: { ...memory, valueDim: 40, outputGate: true, dtype: 'float16' } }],
  ])('%s: within 2 %', async (name, changes) => {
    const device = openDevice('cpu')
    const options = { ...base, ...changes }
    const before = device.memory().allocated
    const model = new Transformer(device, options)
    const rowwise = name.includes('tied')
    const rule = rowwise ? RowwiseAdagrad : AdamW
    const optimizer = new rule(model.parameters(), { lr: 1e-3 })
    const tokens = device.tensor(new Int32Array(4 * 64), [4, 64])
    const still = device.memory().allocated - before
    const loss = model.loss(tokens, tokens)
    const saved = device.memory().allocated - before - still
    loss.backward()
    const queued = device.memory().allocated - before - still

    const planned = plan(options, { batch: 4, optimizer: rowwise ? 'rowwiseAdagrad' : 'adamw' })
    const { parameters, bytesPerDevice: b } = planned
    expect(parameters.total).toBe(model.countParameters())
    const expectNear = (planned: number, real: number) =>
      expect(Math.abs(planned / real - 1)).toBeLessThan(0.02)
    expectNear(b.total - b.activations, still + queued)
    expectNear(b.activations, saved)
    for (const made of [loss, tokens, optimizer, model]) made.dispose()
    await device.synchronize()
  })
})

const small: TransformerOptions = {
  vocabSize: 100,
  dim: 32,
  layers: 2,
  heads: 4,
  kvHeads: 2,
  contextLength: 16,
  feedForward: { kind: 'swiglu', hiddenDim: 64 },
  memory: { layers: [1], nKeys: 8, heads: 2, knn: 4, keyDim: 16 },
}

test('a small model, by hand', () => {
  const p = plan(small, { batch: 2 })
  const attention = 32 * 32 + 2 * (16 * 32) + 32 * 32
  const memory = 2 * 2 * 8 * 8 + (32 * 32 + 32) + 2 * (32 * 32 + 32)
  const dense = 2 * 100 * 32 + 32 + 2 * (32 + attention + 32) + 3 * 64 * 32 + memory
  expect(p.parameters).toEqual({ dense, tables: 64 * 32, total: dense + 64 * 32 })
  const scores = 2 * 32 * (17 / 2)
  expect(p.multiplyAddsPerToken).toMatchObject({
    attention: 2 * (attention + scores),
    feedForward: 3 * 32 * 64,
    memory: 32 * 32 + 2 * 8 * 16 + 2 * 4 * 32 + 2 * 32 * 32,
    head: 3200,
  })
  expect(p.tokensPerStep).toBe(32)
  expect(p.bytesPerStep).toBe(0)
})

test('tables are divided among the devices, and their rows cross the link', () => {
  const options = { batch: 1, link: 1e9 } satisfies PlanOptions
  const one = plan(small, options)
  const four = plan(small, { ...options, devices: 4, columns: 4 })
  const rows = 4 * 64 * 32
  expect(one.bytesPerDevice.tables - four.bytesPerDevice.tables).toBe((rows * 3) / 4)
  expect(four.bytesPerDevice.weights).toBe(one.bytesPerDevice.weights)
  const entries = 16 * 2 * 4
  const bytes = Object.fromEntries(four.collectives.map((c) => [c.name, c.bytes]))
  expect(bytes).toEqual({
    'dense gradients': 2 * 0.75 * 4 * (four.parameters.dense - 100 * 32),
    'embedding reads': 3 * 16 * (8 + 4 * 32),
    'indices and weights': 3 * entries * 8,
    outputs: 0.75 * 4 * 16 * 32,
    'output gradients': 0.75 * 4 * 16 * 32,
    'weight gradients': 3 * entries * 4,
  })
  const total = Object.values(bytes).reduce((a, b) => a + b)
  expect(four.bytesPerStep).toBeCloseTo(total, 6)
  expect(four.link.bytesPerStep).toBeCloseTo(total, 6)
  expect(four.link.secondsPerStep).toBeCloseTo(total / 1e9, 12)
  expect(four.network.bytesPerStep).toBe(0)
  expect(plan(small, { link: 'pcie-5' }).link.bytesPerSecond).toBe(links['pcie-5'])
})

test('replicas send what they read over the network, of which columns need nothing', () => {
  const options = { devices: 4, perMachine: 2, link: 1e12, network: 1e9 } satisfies PlanOptions
  const p = plan(small, { ...options, columns: 2 })
  const entries = 16 * 2 * 4
  const of = (name: string) => p.collectives.find((c) => c.name === name)!
  expect(of('table reads')).toMatchObject({
    group: 'replicas',
    bytes: 8 * 2 * entries + 4 * 16 * 32,
  })
  expect(of('table reads').seconds).toBeCloseTo(of('table reads').bytes / 1e9, 15)
  expect(of('outputs').seconds).toBeCloseTo(of('outputs').bytes / 1e12, 15)
  // of all four devices one is on the same machine
  const world = of('dense gradients').bytes + of('embedding reads').bytes
  expect(p.network.bytesPerStep).toBeCloseTo((world * 2) / 3 + of('table reads').bytes, 6)
})

test('the grid is the fastest that fits, and the smallest where none does', () => {
  const preset = presets['memory-plus-1.3b-1m']
  const options = { devices: 16, batch: 8 }
  const best = plan(preset, { ...options, memory: 10 ** 12 })
  const grids = [1, 2, 4, 8, 16].map((columns) => plan(preset, { ...options, columns }))
  const fastest = Math.min(...grids.map((p) => p.seconds.collectives))
  expect(best.seconds.collectives).toBe(fastest)
  const smallest = Math.min(...grids.map((p) => p.bytesPerDevice.total))
  const none = plan(preset, { ...options, memory: 1 })
  expect(none.fits).toBe(false)
  expect(none.bytesPerDevice.total).toBe(smallest)
})

test('scaling has a plan for every power of two', () => {
  const plans = planScaling(presets['memory-plus-373m-1m'])
  expect(plans.map(({ grid }) => grid.columns * grid.replicas)).toEqual([
    1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024,
  ])
  expect(plans[0]!.seconds.efficiency).toBe(1)
  for (const { seconds } of plans.slice(1)) expect(seconds.efficiency).toBeLessThan(1)
})

test('bad options are refused', () => {
  const code = (options: object, config: object = small) => {
    try {
      plan(config as never, options as never)
    } catch (error) {
      return (error as MemoryLayersError).code
    }
    return 'none'
  }
  expect(code({ devices: 0 })).toBe('ERR_VALUE')
  expect(code({ link: 'nvlink' })).toBe('ERR_VALUE')
  expect(code({ link: -1 })).toBe('ERR_VALUE')
  expect(code({ device: 2 })).toBe('ERR_OPTION')
  expect(code({ devices: 4, columns: 3 })).toBe('ERR_VALUE')
  expect(code({ devices: 64, columns: 64 })).toBe('ERR_VALUE') // rows are 32 wide
  expect(code({}, { ...small, heads: 5 })).toBe('ERR_VALUE')
})

describe('npx memory-layers plan', () => {
  const run = (...args: string[]) =>
    spawnSync(process.execPath, ['--import', 'tsx', 'lib/cli/main.ts', 'plan', ...args], {
      cwd: root,
      encoding: 'utf8',
      // the command must not need the addon
      env: { ...process.env, MEMORY_LAYERS_PREBUILD: '/nowhere' },
    })

  test('prints what plan() gives', () => {
    const name: PresetName = 'memory-plus-1.3b-64m'
    const r = run('--preset', name, '--devices', '8', '--json')
    expect(r.stderr).toBe('')
    expect(JSON.parse(r.stdout)).toEqual(plan(presets[name], { devices: 8, batch: 8 }))
    const text = run('--preset', name, '--devices', '8').stdout
    expect(text).toContain('reported; derived: memory.layers')
    expect(text).toContain('137.44B')
    const scaling = run('--preset', name, '--scaling').stdout
    expect(scaling).toContain('1024')
    for (const line of `${text}\n${scaling}`.split('\n'))
      expect(line.length).toBeLessThanOrEqual(80)
  })

  test('refuses what it does not know', () => {
    const r = run('--preset', 'dense-374m')
    expect(r.status).toBe(2)
    expect(r.stderr).toContain('Did you mean "dense-373m"?')
    expect(run('--preset', 'dense-373m', '--devices', 'x').stderr).toContain('devices')
    expect(run('--sets', 'x').status).toBe(2)
  })
})

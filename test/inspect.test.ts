// What the console shows of each public object: one short line, nothing internal.

import { inspect } from 'node:util'
import { expect, test } from 'vitest'
import { AdamW, MemoryLayer, openDevice, ops, PeerLayer, Sgd, ValueTable } from '../lib/index.js'
import { CrossEntropy, Embedding, FeedForward, Linear, MixtureOfExperts } from '../lib/nn/index.js'

const device = openDevice('cpu')
const sizes = { inputDim: 8, heads: 2, knn: 4, nKeys: 4, keyDim: 4 }

test('a device', () => {
  expect(inspect(device)).toBe(`Device cpu (${device.description})`)
})

test('a tensor, alive and disposed', () => {
  const tensor = device.zeros([2, 3], 'int32')
  expect(inspect(tensor)).toBe('Tensor int32 [2, 3] on cpu')
  tensor.dispose()
  expect(inspect({ tensor })).toBe('{ tensor: Tensor int32 [2, 3] on cpu, disposed }')
})

test('layers, their tables and contexts', () => {
  const memory = new MemoryLayer(device, { ...sizes, outputDim: 6 })
  expect(inspect(memory)).toBe('MemoryLayer inputDim 8, outputDim 6 on cpu')
  expect(inspect(memory.values)).toBe('ValueTable float32 [16, 6] on cpu')
  expect(inspect(memory.forward(device.zeros([1, 8])).context)).toBe('Context on cpu')
  expect(inspect(new PeerLayer(device, sizes))).toBe('PeerLayer inputDim 8, outputDim 8 on cpu')
  const table = new ValueTable(device, { slots: 4, dim: 2, dtype: 'bfloat16' })
  table.dispose()
  expect(inspect(table)).toBe('ValueTable bfloat16 [4, 2] on cpu, disposed')
})

test('parameters, of both kinds', () => {
  const lines = new MemoryLayer(device, sizes).parameters().map((p) => inspect(p))
  expect(lines).toContain('Parameter keys: dense float32 [2, 2, 4, 2] on cpu')
  expect(lines).toContain('Parameter values.weight: table float32 [16, 8] on cpu')
  for (const line of lines) expect(line).toMatch(/^Parameter \S+: \w+ float32 \[.*\] on cpu$/)
})

test('optimizers', () => {
  const parameters = new MemoryLayer(device, { ...sizes, gate: 'none' }).parameters()
  expect(inspect(new Sgd(parameters, { lr: 0.1 }))).toMatch(
    /^Sgd lr 0\.1, dense parameters \d+, tables 1, on cpu$/,
  )
  expect(inspect(new AdamW(parameters, { lr: 0.1, tableLr: 0.2 }))).toContain('tableLr 0.2')
})

test('a lookup and a sparse gradient', () => {
  const lookup = ops.productKeyLookup(device.zeros([3, 2, 2, 4]), device.zeros([2, 2, 8, 4]), {
    knn: 4,
  })
  expect(inspect(lookup)).toBe('Lookup [3, 2, 4], gate softmax, on cpu')
  expect(Object.keys(lookup)).toEqual(['scores', 'indices', 'weights', 'gate', 'knn', 'compute'])
  const table = new ValueTable(device, { slots: 5, dim: 2 })
  expect(inspect(table.gradient())).toBe('SparseGrad [5, 2] on cpu')
})

test('modules of the dense stack', () => {
  const linear = new Linear(device, { inputDim: 4, outputDim: 3 })
  expect(inspect(linear)).toBe('Linear weight [3, 4], bias [3]')
  const { context } = linear.forward(device.zeros([1, 4]))
  expect(inspect(context)).toBe('Context of Linear')
  context.dispose()
  expect(inspect(context)).toBe('Context, spent')
  expect(inspect(new Embedding(device, { count: 9, dim: 2 }))).toBe('Embedding [9, 2] on cpu')
  expect(inspect(new FeedForward(device, { dim: 2, hiddenDim: 4 }))).toContain('w1.weight [4, 2]')
  const experts = new MixtureOfExperts(device, { dim: 2, hiddenDim: 4, experts: 3 })
  expect(inspect(experts)).toMatch(/^MixtureOfExperts router\.weight \[3, 2\], .*, 13 in all$/)
  expect(inspect(new CrossEntropy(device))).toBe('CrossEntropy on cpu')
})

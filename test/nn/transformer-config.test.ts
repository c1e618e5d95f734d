// What a decoder is made of: defaults, and refusals that name option, rule and a value that does.

import { describe, expect, test } from 'vitest'
import type { MemoryLayersError } from '../../lib/errors.js'
import {
  checkTransformerOptions,
  type TransformerOptions,
} from '../../lib/nn/transformer-config.js'
import { integers } from '../support/random.js'

const base: TransformerOptions = { vocabSize: 97, dim: 96, layers: 6, heads: 4, contextLength: 64 }

function check(options: object) {
  return checkTransformerOptions('Transformer', { ...base, ...options })
}

function refusal(options: object): { code: string; message: string } {
  try {
    check(options)
  } catch (error) {
    const { code, message } = error as MemoryLayersError
    return { code, message }
  }
  throw new Error('was not refused')
}

test('the defaults', () => {
  const config = check({})
  expect(config).toMatchObject({
    kvHeads: 4,
    headDim: 24,
    rope: { theta: 10_000 },
    tieEmbeddings: false,
    compute: 'float32',
    seed: undefined,
  })
  const swiglu = { feedForward: { kind: 'swiglu', hiddenDim: 256 }, memory: undefined }
  expect(config.blocks).toEqual(Array(6).fill(swiglu))
})

test.each([
  [1024, 2816],
  [2048, 5632],
  [4096, 11008],
])('the hidden width of swiglu at the published width %i is %i', (dim, hiddenDim) => {
  const config = check({ dim, heads: 16 })
  expect(config.blocks[0]!.feedForward).toEqual({ kind: 'swiglu', hiddenDim })
})

test('a memory takes the place of feed-forwards, or stands beside them', () => {
  const memory = { layers: [1, 4], nKeys: 16, heads: 2, knn: 8, keyDim: 32 }
  const defaults = { valueDim: 96, gate: 'silu', outputGate: false, dtype: 'float32', shared: true }
  const { layers: _, ...lookup } = memory
  const replaced = check({ memory }).blocks
  expect(replaced.map((b) => b.feedForward.kind)).toEqual([
    'swiglu',
    'none',
    'swiglu',
    'swiglu',
    'none',
    'swiglu',
  ])
  expect(replaced[4]!.memory).toEqual({ ...lookup, ...defaults })
  expect(replaced[0]!.memory).toBeUndefined()
  const beside = check({ memory: { ...memory, beside: true, shared: false } }).blocks
  expect(beside[1]).toEqual({
    feedForward: { kind: 'swiglu', hiddenDim: 256 },
    memory: { ...lookup, ...defaults, shared: false },
  })
})

test('a feed-forward of every kind, by layer', () => {
  const specs = [
    { kind: 'gelu' },
    { kind: 'moe', experts: 4, hiddenDim: 32 },
    { kind: 'peer', nKeys: 8, knn: 4, keyDim: 16 },
    { kind: 'memory', nKeys: 8, knn: 4, keyDim: 16 },
    { kind: 'none' },
    undefined,
  ]
  const blocks = check({ feedForward: (layer: number) => specs[layer] }).blocks
  expect(blocks.map((b) => b.feedForward)).toEqual([
    { kind: 'gelu', hiddenDim: 384 },
    { kind: 'moe', experts: 4, hiddenDim: 32, routing: 'token', expertsPerToken: 2, balance: 0.01 },
    { kind: 'peer', nKeys: 8, heads: 4, knn: 4, keyDim: 16, activation: 'gelu' },
    { kind: 'none' },
    { kind: 'none' },
    { kind: 'swiglu', hiddenDim: 256 },
  ])
  expect(blocks[3]!.memory).toMatchObject({ nKeys: 8, knn: 4, shared: false })
})

/** The options that a chain of messages leads to. */
function followHints(options: Record<string, unknown>, messages: string[] = []): string[] {
  try {
    check(options)
    return messages
  } catch (error) {
    const { message } = error as MemoryLayersError
    const [, name, value] = /\n {2}(\w+) (\d+) would do/.exec(message) ?? []
    if (!name || messages.length > 3) throw error
    return followHints({ ...options, [name]: Number(value) }, [...messages, message])
  }
}

test('the values that messages about heads say would do, do', () => {
  let refused = 0
  for (let seed = 0; seed < 500; seed++) {
    const [dim = 1, heads = 1, kvHeads = 1, headDim = 1] = integers(4, 1, 700, seed)
    const options = {
      dim,
      heads: 1 + (heads % 12),
      kvHeads: seed % 3 ? undefined : 1 + (kvHeads % 5),
      headDim: seed % 4 ? undefined : headDim,
      rope: seed % 5 ? undefined : false,
    }
    if (followHints(options).length > 0) refused++
  }
  expect(refused).toBeGreaterThan(100)
})

describe('refusals', () => {
  test.each([
    [{ heads: 5 }, 'ERR_VALUE', ['"heads" must divide dim 96', 'got 5', 'heads 4']],
    [{ kvHeads: 3 }, 'ERR_VALUE', ['"kvHeads" must divide heads 4', 'kvHeads 2']],
    [{ dim: 2048, heads: 2 }, 'ERR_VALUE', ['at most 256', 'got 1024', 'heads 8']],
    [{ dim: 12, heads: 4 }, 'ERR_VALUE', ['even', 'got 3', 'headDim 4', 'rope: false']],
    [{ memory: { layers: [20] } }, 'ERR_VALUE', ['memory.layers[0]', 'from 0 to 5', '3 would do']],
    [{ memory: { layers: [] } }, 'ERR_VALUE', ['memory.layers', '[3] would do']],
    [{ memory: { layers: [2, 2] } }, 'ERR_VALUE', ['memory.layers[1]', 'named once']],
    [
      { memory: { layers: [2], nKeys: 16, knn: 17 } },
      'ERR_VALUE',
      ['memory.knn', 'at most nKeys 16', 'got 17', 'knn 16 would do'],
    ],
    [{ dim: 9, heads: 2 }, 'ERR_VALUE', ['"heads" must divide dim 9', 'headDim 256 would do']],
    [
      { memory: { layers: [2], keyDim: 33 } },
      'ERR_VALUE',
      ['memory', 'even', 'keyDim 34 would do'],
    ],
    [{ feedForward: 'gelu' }, 'ERR_VALUE', ['"feedForward"', "{ kind: 'gelu' } would do"]],
    [
      { feedForward: () => ({ kind: 'memory' }), memory: { layers: [2] } },
      'ERR_OPTION',
      ['feedForward(2)', 'memory.layers: 2', "kind 'memory'", 'Leave 2 out'],
    ],
    [
      { feedForward: { kind: 'memory' }, memory: { layers: [2] } },
      'ERR_OPTION',
      ['feedForward', 'memory.layers: 2'],
    ],
    [{ feedForward: { kind: 'swigul' } }, 'ERR_VALUE', ["Did you mean 'swiglu'?"]],
    [{ feedForward: { kind: 'gelu', hiden: 3 } }, 'ERR_OPTION', ['hiddenDim']],
    [{ feedForward: { kind: 'gelu', experts: 3 } }, 'ERR_OPTION', ['experts']],
    [{ feedForward: { kind: 'moe' } }, 'ERR_VALUE', ['feedForward.experts']],
    [{ rope: { theta: 0 } }, 'ERR_VALUE', ['rope.theta', '10000 would do']],
    [{ dropout: 1 }, 'ERR_VALUE', ['dropout', 'below 1', '0.1 would do']],
    [{ compute: 'float64' }, 'ERR_VALUE', ['compute', 'float32']],
    [{ vocabSise: 3 }, 'ERR_OPTION', ['vocabSize']],
    [{ contextLength: 0 }, 'ERR_VALUE', ['contextLength']],
  ])('%j', (options, code, parts) => {
    const found = refusal(options)
    expect(found.code).toBe(code)
    for (const part of parts) expect(found.message).toContain(part)
  })
})

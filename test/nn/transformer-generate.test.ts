import { describe, expect, test } from 'vitest'
import { type Device, noGrad } from '../../lib/index.js'
import { Transformer, type TransformerOptions } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { settledMemory } from '../support/garbage.js'

const base = { vocabSize: 11, dim: 16, layers: 2, heads: 4, contextLength: 24, seed: 9 }
const lookups = { nKeys: 4, heads: 2, knn: 3, keyDim: 4 }
const models: Record<string, Partial<TransformerOptions>> = {
  'grouped queries, tied': { kvHeads: 2, tieEmbeddings: true },
  'memory, no rope': { memory: { layers: [1], ...lookups }, rope: false },
  'experts that tokens choose': { feedForward: { kind: 'moe', experts: 3, hiddenDim: 8 } },
  'experts that choose tokens': {
    feedForward: { kind: 'moe', experts: 3, hiddenDim: 8, routing: 'expert' },
  },
}

// Large embeddings, so that the logits of tokens differ clearly.
function make(device: Device, options: Partial<TransformerOptions>): Transformer {
  const swiglu = { kind: 'swiglu', hiddenDim: 16 } as const
  const model = new Transformer(device, { ...base, feedForward: swiglu, ...options })
  const rows = model.stateDict()['model.embed_tokens.weight']!
  rows.copyFrom(device.normal(rows.shape, { seed: 1 }))
  return model
}

async function collect<T>(tokens: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = []
  for await (const token of tokens) all.push(token)
  return all
}

/** Greedy tokens, each from the logits of the whole sequence. */
async function withoutCache(model: Transformer, prompt: number[], count: number) {
  const tokens = [...prompt]
  for (let i = 0; i < count; i++) {
    using logits = noGrad(() => model.apply(tokens))
    const last = (await logits.data()).subarray(-model.config.vocabSize)
    tokens.push(last.indexOf(Math.max(...last)))
  }
  return tokens.slice(prompt.length)
}

onEveryDevice((device) => {
  describe.each(Object.keys(models))('%s', (name) => {
    test('tokens are those of generation without a cache, alone and together', async () => {
      using model = make(device, models[name]!)
      const prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9, 10, 0]]
      const options = { temperature: 0, maxTokens: 8 }
      const alone: number[][] = []
      for (const prompt of prompts) {
        const tokens = await collect(model.generate(prompt, options))
        expect(tokens).toEqual(await withoutCache(model, prompt, 8))
        alone.push(tokens)
      }
      const steps = await collect(model.generate(prompts, options))
      expect(steps.length).toBe(8)
      expect(prompts.map((_, i) => steps.map((step) => step[i]))).toEqual(alone)
    })
  })

  const model = () => make(device, {})

  test('draws follow from the seed, and from the probabilities', async () => {
    using m = model()
    const draw = (seed: number, more = {}) =>
      collect(m.generate([1, 2], { seed, maxTokens: 12, ...more }))
    expect(await draw(1)).toEqual(await draw(1))
    expect(await draw(1)).not.toEqual(await draw(2))
    const greedy = await draw(0, { temperature: 0 })
    expect(await draw(3, { topK: 1 })).toEqual(greedy)
    expect(await draw(3, { topP: 1e-9 })).toEqual(greedy)
    expect(await draw(3, { temperature: 1e-4 })).toEqual(greedy)
    using logits = noGrad(() => m.apply([1]))
    const scores = await logits.data()
    const terms = Array.from(scores, (v) => Math.exp(v - Math.max(...scores)))
    const total = terms.reduce((a, b) => a + b)
    const counts = new Float64Array(11)
    const draws = device.kind === 'cpu' ? 150 : 30
    for (let seed = 0; seed < draws; seed++)
      for (const token of await collect(m.generate([1], { seed, maxTokens: 1 }))) counts[token]!++
    for (const [token, term] of terms.entries()) {
      const p = term / total
      const deviation = Math.sqrt((p * (1 - p)) / draws)
      expect(Math.abs(counts[token]! / draws - p)).toBeLessThan(4.5 * deviation + 1e-3)
    }
  })

  test('of topK and topP only the most probable tokens come', async () => {
    using m = model()
    using logits = noGrad(() => m.apply([3]))
    const scores = Array.from(await logits.data())
    const order = [...scores.keys()].sort((a, b) => scores[b]! - scores[a]!)
    const terms = order.map((token) => Math.exp(scores[token]! - scores[order[0]!]!))
    const total = terms.reduce((a, b) => a + b)
    const firstTwo = (terms[0]! + terms[1]!) / total
    const seen = async (options: object) => {
      const tokens = new Set<number>()
      for (let seed = 0; seed < 25; seed++)
        for (const t of await collect(m.generate([3], { seed, maxTokens: 1, ...options })))
          tokens.add(t)
      return [...tokens].sort((a, b) => a - b)
    }
    const sorted = (tokens: number[]) => tokens.sort((a, b) => a - b)
    expect(await seen({ topK: 2, temperature: 5 })).toEqual(sorted(order.slice(0, 2)))
    expect(await seen({ topP: firstTwo - 1e-4, temperature: 1 })).toEqual(sorted(order.slice(0, 2)))
  })

  test('a sequence ends at a stop token; the others go on', async () => {
    using m = model()
    const greedy = await collect(m.generate([1, 2], { temperature: 0, maxTokens: 6 }))
    const stop = greedy[3]!
    const first = greedy.indexOf(stop)
    const options = { temperature: 0, maxTokens: 6, stop }
    expect(await collect(m.generate([1, 2], options))).toEqual(greedy.slice(0, first))
    const other = await collect(m.generate([5], { temperature: 0, maxTokens: 6, stop: [stop] }))
    const steps = await collect(m.generate([[1, 2], [5]], options))
    const column = (i: number) => steps.map((step) => step[i]!).filter((token) => token !== -1)
    expect(column(0)).toEqual(greedy.slice(0, first))
    expect(column(1)).toEqual(other)
  })

  test('memory is freed at the end, on leaving the loop, and on a signal', async () => {
    using m = model()
    await collect(m.generate([1], { maxTokens: 2 }))
    const before = await settledMemory(device)
    const settle = async () => {
      await device.synchronize()
      return device.memory().allocated
    }
    await collect(m.generate([1, 2, 3]))
    expect(await settle()).toBe(before)
    for await (const _ of m.generate([1, 2, 3])) break
    expect(await settle()).toBe(before)
    const controller = new AbortController()
    const tokens: number[] = []
    const run = async () => {
      for await (const token of m.generate([1], { signal: controller.signal })) {
        tokens.push(token)
        if (tokens.length === 3) controller.abort(new Error('enough'))
      }
    }
    await expect(run()).rejects.toThrow('enough')
    expect(tokens.length).toBe(3)
    expect(await settle()).toBe(before)
  })

  test('a model that was disposed says so', async () => {
    const m = model()
    m.dispose()
    await errorOf('ERR_DISPOSED', () => collect(m.generate([1])))
  })

  test('prompts and options are checked at the call', async () => {
    using m = model()
    await errorOf('ERR_VALUE', () => m.generate([]))
    await errorOf('ERR_VALUE', () => m.generate([[1], []]))
    await errorOf('ERR_DTYPE', () => m.generate('text' as never))
    expect(await errorOf('ERR_INDEX_RANGE', () => m.generate([1, 11]))).toContain('vocabSize 12')
    expect(await errorOf('ERR_VALUE', () => m.generate(new Int32Array(25)))).toContain('24')
    const many = await errorOf('ERR_VALUE', () => m.generate([1, 2], { maxTokens: 23 }))
    expect(many).toContain('maxTokens 22 would do')
    await errorOf('ERR_VALUE', () => m.generate([1], { temperature: -1 }))
    await errorOf('ERR_VALUE', () => m.generate([1], { topP: 0 }))
    await errorOf('ERR_VALUE', () => m.generate([1], { topK: 0 }))
    await errorOf('ERR_VALUE', () => m.generate([1], { stop: 11 }))
    await errorOf('ERR_VALUE', () => m.generate([1], { signal: {} as never }))
    expect(await errorOf('ERR_OPTION', () => m.generate([1], { topk: 2 } as never))).toMatch(/topK/)
    expect(await collect(m.generate([1], { maxTokens: 0 }))).toEqual([])
  })
})

import { writeFile } from 'node:fs/promises'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { openDevice } from '../../lib/index.js'
import { CharacterTokenizer, TextDataset } from '../../lib/nn/index.js'
import { shuffled } from '../../lib/nn/shuffle.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'

const device = openDevice('cpu')
const folder = temporaryFolder()
const numbers = (count: number) => Int32Array.from({ length: count }, (_, i) => i)

async function take(dataset: TextDataset, count: number) {
  const windows: number[][] = []
  for (const batch of dataset) {
    const [tokens, targets] = await Promise.all([batch.tokens.data(), batch.targets.data()])
    const [rows = 0, length = 0] = batch.tokens.shape
    for (let b = 0; b < rows; b++) {
      const row = [...tokens.slice(b * length, (b + 1) * length)]
      expect([...targets.slice(b * length, (b + 1) * length)]).toEqual(row.map((t) => t + 1))
      windows.push(row)
    }
    batch.dispose()
    if (--count === 0) break
  }
  return windows
}

test('the order is a permutation, another for each seed and epoch', () => {
  const count = fc.integer({ min: 1, max: 3000 })
  const seed = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER })
  fc.assert(
    fc.property(count, seed, fc.nat({ max: 1000 }), (n, seed, epoch) => {
      const order = Array.from({ length: n }, (_, i) => shuffled(i, n, seed, epoch))
      expect(new Set(order).size).toBe(n)
      expect(Math.max(...order)).toBe(n - 1)
    }),
    { numRuns: 50 },
  )
  const order = (seed: number, epoch: number) =>
    Array.from({ length: 100 }, (_, i) => shuffled(i, 100, seed, epoch)).join()
  const orders = [order(0, 0), order(0, 1), order(1, 0), order(2 ** 32, 0), order(2 ** 40, 0)]
  expect(new Set(orders).size).toBe(orders.length)
})

describe('TextDataset', () => {
  const options = { device, contextLength: 4, batchSize: 3, seed: 5 }

  test('an epoch has every window once, in a random order', async () => {
    const dataset = new TextDataset(numbers(4 * 12 + 3), options)
    expect(dataset.windows).toBe(12)
    const windows = await take(dataset, 4)
    const inOrder = Array.from({ length: 12 }, (_, i) => [4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3])
    expect(windows).not.toEqual(inOrder)
    expect([...windows].sort((a, b) => a[0]! - b[0]!)).toEqual(inOrder)
    expect(await take(dataset, 4)).not.toEqual(windows)
    const ordered = new TextDataset(numbers(49), { ...options, shuffle: false })
    expect(await take(ordered, 4)).toEqual(inOrder)
  })

  test('goes on at its position, as one that was never stopped', async () => {
    const whole = await take(new TextDataset(numbers(100), options), 20)
    const stopped = new TextDataset(numbers(100), options)
    const first = await take(stopped, 7)
    expect(stopped.position).toBe(7)
    expect([...first, ...(await take(stopped, 13))]).toEqual(whole)
    const resumed = new TextDataset(numbers(100), options)
    resumed.position = 7
    expect(await take(resumed, 13)).toEqual(whole.slice(7 * 3))
  })

  test('ends after its epochs, and begins anew', async () => {
    const dataset = new TextDataset(numbers(40), { ...options, epochs: 2 })
    expect(dataset.batches).toBe(6)
    const all = await take(dataset, Infinity)
    expect(all.length).toBe(18)
    expect(await take(dataset, Infinity)).toEqual(all)
  })

  test('reads text with any tokenizer; of its own it has one of characters', async () => {
    const path = `${folder}/text.txt`
    await writeFile(path, 'abcabcabcabcé')
    const dataset = await TextDataset.load(path, { device, contextLength: 3 })
    expect(dataset.tokenizer).toBeInstanceOf(CharacterTokenizer)
    expect(dataset.tokenizer!.decode([...dataset.tokens])).toBe('abcabcabcabcé')
    const bytes = {
      encode: (text: string) => ({ ids: [...Buffer.from(text)] }),
      decode: (tokens: number[]) => Buffer.from(tokens).toString(),
    }
    const ofBytes = new TextDataset('abcdé', { device, contextLength: 2, tokenizer: bytes })
    expect([...ofBytes.tokens]).toEqual([97, 98, 99, 100, 0xc3, 0xa9])
  })

  test('refuses what it can not cut', async () => {
    const make =
      (source: unknown, changes: object = {}) =>
      () =>
        new TextDataset(source as never, { ...options, ...changes } as never)
    expect(await errorOf('ERR_VALUE', make([1, 2, 3]))).toContain('contextLength 2 would do')
    await errorOf('ERR_VALUE', make([1, 2, -1, 4, 5, 6]))
    await errorOf('ERR_VALUE', make([1, 2, 0.5, 4, 5, 6]))
    await errorOf('ERR_VALUE', make(''))
    await errorOf('ERR_VALUE', make(7))
    await errorOf('ERR_VALUE', make('abcdefgh', { tokenizer: {} }))
    await errorOf('ERR_VALUE', make(numbers(20), { batchSize: 9, epochs: 1 }))
    await errorOf('ERR_OPTION', make(numbers(20), { contextLenght: 4 }))
    await errorOf('ERR_FILE_FORMAT', () => TextDataset.load('/nowhere.txt', options))
  })
})

test('CharacterTokenizer: by code points, and back', async () => {
  const tokenizer = new CharacterTokenizer('caab🙂')
  expect(tokenizer.vocabSize).toBe(4)
  expect(tokenizer.encode('abc🙂')).toEqual([0, 1, 2, 3])
  expect(tokenizer.decode([3, 2, 1, 0])).toBe('🙂cba')
  await errorOf('ERR_VALUE', () => tokenizer.encode('d'))
  await errorOf('ERR_VALUE', () => tokenizer.decode([4]))
})

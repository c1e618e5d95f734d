// Generation: a token at a time, of one or several sequences, with a cache of keys and values.

import { noGrad } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import type { Device } from '../device.js'
import { encodeIndices, isNumericData, readNumbers } from '../encode.js'
import { fail, isArray } from '../errors.js'
import * as ops from '../ops.js'
import type { Tensor } from '../tensor.js'
import { checkSampling, type GenerateOptions, type Sampling, sample } from './sampling.js'
import { checkTime, type TokenLimits, tokenRule } from './tokens.js'
import { type Pass, type Segment, Sequence } from './transformer-cache.js'

/** Token numbers of one sequence. */
export type Prompt = readonly number[] | Int32Array

/** What generation needs of a model. */
export interface Generator {
  readonly limits: TokenLimits
  readonly layers: number
  readonly kvHeads: number
  readonly headDim: number
  /** Whether a token's output depends on no later one: else there is nothing to cache. */
  readonly causal: boolean
  /** From tokens `[batch * time]` to `[batch * time, dim]`. */
  run(tokens: Tensor, pass: Pass): Tensor
  /** From `[rows, dim]` to `[rows, vocabSize]`. */
  head(rows: Tensor): Tensor
}

/** A sequence that grows, and its tokens that were not computed with yet. */
interface Growing {
  readonly index: number
  readonly tokens: number[]
  fresh: readonly number[]
  readonly cache: Sequence | undefined
  done: boolean
}

function checkPrompts(
  where: string,
  prompt: unknown,
  limits: TokenLimits,
): { prompts: number[][]; several: boolean } {
  const first: unknown = isArray(prompt) ? prompt[0] : undefined
  const several = typeof first === 'object' && first !== null
  const list = several ? (prompt as readonly unknown[]) : [prompt]
  const prompts = Array.from(list, (tokens, i) => {
    const name = several ? `prompts[${i}]` : 'prompt'
    if (!isNumericData(tokens))
      fail('ERR_DTYPE', where, name, 'be an array of tokens or an Int32Array', tokens)
    const numbers = readNumbers(where, name, tokens)
    if (numbers.length === 0) fail('ERR_VALUE', where, name, 'have at least one token', 'none')
    const encoded = encodeIndices(where, name, numbers, tokenRule(limits.vocabSize, []))
    checkTime(where, name, numbers.length, limits.contextLength)
    return Array.from({ length: numbers.length }, (_, at) => encoded[at]!)
  })
  return { prompts, several }
}

/** @throws ERR_DTYPE, ERR_VALUE, ERR_INDEX_RANGE, ERR_OPTION */
export function generate(
  model: Generator,
  prompt: Prompt | readonly Prompt[],
  options: GenerateOptions | undefined,
): AsyncGenerator<number | number[], void, undefined> {
  const where = 'Transformer.generate'
  const { device, vocabSize, contextLength } = model.limits
  const { prompts, several } = checkPrompts(where, prompt, model.limits)
  const longest = prompts.reduce((max, { length }) => Math.max(max, length), 0)
  const sampling = checkSampling(where, options, {
    free: contextLength - longest,
    vocabSize,
    nextSeed: () => device.seeds.next(),
  })
  return grow(model, prompts, several, sampling)
}

async function* grow(
  model: Generator,
  prompts: readonly number[][],
  several: boolean,
  sampling: Sampling,
): AsyncGenerator<number | number[], void, undefined> {
  const sequences: Growing[] = []
  try {
    for (const [index, tokens] of prompts.entries()) {
      const cache = model.causal ? newCache(model, tokens.length + sampling.maxTokens) : undefined
      sequences.push({ index, tokens, fresh: tokens, cache, done: false })
    }
    for (let n = 0; n < sampling.maxTokens; n++) {
      sampling.signal?.throwIfAborted()
      const growing = sequences.filter(({ done }) => !done)
      const drawn = draw(model, growing, sampling, n)
      const tokens = await drawn.data().finally(() => drawn.dispose())
      const next = prompts.map(() => -1)
      for (const [row, sequence] of growing.entries()) {
        const token = tokens[row]!
        if (token < 0) failNothing(sequence)
        if (sampling.stop.has(token)) sequence.done = true
        else next[sequence.index] = append(sequence, token)
      }
      if (sequences.every(({ done }) => done)) return
      yield several ? next : next[0]!
    }
  } finally {
    for (const { cache } of sequences) cache?.dispose()
  }
}

function append(sequence: Growing, token: number): number {
  sequence.fresh = [token]
  sequence.tokens.push(token)
  return token
}

function newCache({ limits, layers, kvHeads, headDim }: Generator, capacity: number): Sequence {
  return new Sequence(limits.device, layers, [capacity, kvHeads, headDim])
}

/** The next token of each sequence, `[sequences, 1]`. */
function draw(
  model: Generator,
  growing: readonly Growing[],
  sampling: Sampling,
  step: number,
): Tensor<'int32'> {
  const numbers = growing.map(({ index }) => index)
  const tokens = noGrad(() =>
    tidy(() => {
      const rows = model.causal ? lastOfFresh(model, growing) : lastOfAll(model, growing)
      return sample(model.head(rows), sampling, numbers, step)
    }),
  )
  for (const { cache, fresh } of growing) if (cache) cache.length += fresh.length
  return tokens
}

/** The last row of each sequence, from its fresh tokens and its cache: `[sequences, dim]`. */
function lastOfFresh(model: Generator, growing: readonly Growing[]): Tensor {
  const { device } = model.limits
  const segments: Segment[] = []
  for (const { cache, fresh } of growing) {
    const begin = segments.at(-1)?.end ?? 0
    segments.push({ begin, end: begin + fresh.length, sequence: cache! })
  }
  const fresh = growing.flatMap((sequence) => sequence.fresh)
  const pass = { batch: 1, dropout: undefined, losses: [], segments }
  const rows = model.run(int32(device, fresh), pass)
  if (fresh.length === growing.length) return rows
  const last = segments.map(({ end }) => end - 1)
  return ops.embedding(rows, int32(device, last))
}

/** {@link lastOfFresh} without a cache: every token of each sequence is computed with again. */
function lastOfAll({ limits, run }: Generator, growing: readonly Growing[]): Tensor {
  const last = growing.map(({ tokens }) => {
    const { length } = tokens
    const whole = int32(limits.device, tokens)
    const rows = run(whole, { batch: 1, dropout: undefined, losses: [] })
    return rows.rows(length - 1, length)
  })
  return ops.concat(last, 0)
}

function failNothing({ index }: Growing): never {
  const found = `logits that are NaN, after prompt ${index}`
  fail('ERR_VALUE', 'Transformer.generate', 'this', 'have logits to draw a token from', found)
}

function int32(device: Device, numbers: readonly number[]): Tensor {
  return device.tensor(Int32Array.from(numbers))
}

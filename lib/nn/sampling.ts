// Which token comes next, from the logits of all.

import { fail, isArray } from '../errors.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'

/** Options of {@link Transformer.generate}. */
export interface GenerateOptions {
  /** At most so many tokens. Default: until the context is full. */
  maxTokens?: number
  /** Logits are divided by it; 0 takes the most probable token. Default 1. */
  temperature?: number
  /** Only the k most probable tokens are drawn from. Default: all. */
  topK?: number
  /**
   * Only the most probable tokens that together have this probability are drawn from (Holtzman et
   * al. 2019). Default 1: all.
   */
  topP?: number
  /** Of the draws: they follow from it. Default: the next of the device's counter. */
  seed?: number
  /** A token, or several, that end a sequence; it is not yielded. */
  stop?: number | readonly number[]
  /** Ends the generation: the next token rejects with its reason. */
  signal?: AbortSignal
}

/** Checked options. */
export interface Sampling {
  maxTokens: number
  temperature: number
  topK: number
  topP: number
  seed: number
  stop: ReadonlySet<number>
  signal: AbortSignal | undefined
}

const names = ['maxTokens', 'temperature', 'topK', 'topP', 'seed', 'stop', 'signal']

/** @throws ERR_OPTION, ERR_VALUE */
export function checkSampling(
  where: string,
  options: GenerateOptions | undefined,
  { free, vocabSize, nextSeed }: { free: number; vocabSize: number; nextSeed: () => number },
): Sampling {
  const checked = checkOptions(where, options, names)
  const { temperature, topK, topP, seed, stop, signal } = checked
  const maxTokens = checkInteger(where, 'maxTokens', checked.maxTokens ?? free, 0)
  if (maxTokens > free) {
    const requirement = `be at most ${free}, what contextLength leaves after the longest prompt`
    fail('ERR_VALUE', where, 'maxTokens', requirement, maxTokens, `maxTokens ${free} would do.`)
  }
  const share = checkNumber(where, 'topP', topP ?? 1, 0)
  if (share === 0 || share > 1)
    fail('ERR_VALUE', where, 'topP', 'be above 0 and at most 1', share, '0.9 would do.')
  if (signal !== undefined && !(signal instanceof AbortSignal))
    fail('ERR_VALUE', where, 'signal', 'be an AbortSignal', signal)
  return {
    maxTokens,
    temperature: checkNumber(where, 'temperature', temperature ?? 1, 0),
    topK: checkInteger(where, 'topK', topK ?? vocabSize, 1),
    topP: share,
    seed: checkInteger(where, 'seed', seed ?? nextSeed(), 0),
    stop: new Set(checkStop(where, stop, vocabSize)),
    signal,
  }
}

function checkStop(where: string, stop: unknown, vocabSize: number): number[] {
  if (stop === undefined) return []
  const tokens = isArray(stop) ? [...stop] : [stop]
  return tokens.map((token) => checkInteger(where, 'stop', token, 0, vocabSize - 1))
}

/**
 * Draws one of the tokens, by a number in [0, 1) that follows from the seed and the position alone.
 * @param logits of all tokens
 * @throws nothing: of logits that are all NaN or -Infinity the first token comes
 */
export function sample(logits: Float32Array, sampling: Sampling, position: number): number {
  const { temperature, topK, topP, seed } = sampling
  if (temperature === 0) return best(logits)
  const candidates = mostProbable(logits, topK < logits.length || topP < 1 ? topK : undefined)
  const max = logits[best(logits)]!
  const terms = candidates.map((token) => Math.exp((logits[token]! - max) / temperature))
  const total = terms.reduce((sum, term) => sum + term, 0)
  let kept = terms.length
  let mass = total
  if (topP < 1) {
    kept = 0
    mass = 0
    while (kept < terms.length && (kept === 0 || mass < topP * total)) mass += terms[kept++]!
  }
  let rest = uniform(seed, position) * mass
  for (let i = 0; i < kept; i++) {
    rest -= terms[i]!
    if (rest < 0) return candidates[i]!
  }
  return candidates[kept - 1] ?? best(logits)
}

/** The first of the largest. */
function best(logits: Float32Array): number {
  let index = 0
  for (let i = 1; i < logits.length; i++) if (!(logits[i]! <= logits[index]!)) index = i
  return index
}

/** The tokens of the k largest logits in their order; without k all, in the order of numbers. */
function mostProbable(logits: Float32Array, k: number | undefined): number[] {
  const tokens = Array.from(logits.keys())
  if (k === undefined) return tokens
  return tokens.sort((a, b) => logits[b]! - logits[a]! || a - b).slice(0, k)
}

/** In [0, 1): the finalizer of SplitMix64 over seed and position. */
function uniform(seed: number, position: number): number {
  const mask = (1n << 64n) - 1n
  let z = (BigInt(seed) * 0x9e3779b97f4a7c15n + BigInt(position + 1) * 0xd1342543de82ef95n) & mask
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & mask
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & mask
  return Number((z ^ (z >> 31n)) >> 11n) / 2 ** 53
}

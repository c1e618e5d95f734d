// Which token comes next, from the logits of all.

import { isInstance } from '../describe.js'
import { fail, isArray } from '../errors.js'
import * as ops from '../ops.js'
import { checkFloat32, checkInteger, checkNumber, checkOptions, checkSeed } from '../options.js'
import type { Tensor } from '../tensor.js'

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
  if (signal !== undefined && !isInstance(signal, AbortSignal))
    fail('ERR_VALUE', where, 'signal', 'be an AbortSignal', signal)
  const stops = new Set(checkStop(where, stop, vocabSize))
  return {
    maxTokens,
    temperature: checkFloat32(where, 'temperature', temperature ?? 1, 0),
    topK: checkInteger(where, 'topK', topK ?? vocabSize, 1),
    topP: share,
    stop: stops,
    signal,
    seed: checkSeed(where, seed) ?? nextSeed(), // drawn where all else is right
  }
}

function checkStop(where: string, stop: unknown, vocabSize: number): number[] {
  if (stop === undefined) return []
  const tokens = isArray(stop) ? [...stop] : [stop]
  return tokens.map((token) => checkInteger(where, 'stop', token, 0, vocabSize - 1))
}

/**
 * Draws the token that follows each of some sequences.
 * @param logits `[sequences, vocabSize]`
 * @param numbers of the sequences: a draw follows from the seed, this number and the step alone
 * @returns `[sequences, 1]`; -1 where the logits are NaN
 */
export function sample(
  logits: Tensor,
  { temperature, topK, topP, seed }: Sampling,
  numbers: readonly number[],
  step: number,
): Tensor<'int32'> {
  const draw = (row: Tensor, number: number, out?: Tensor) => {
    const options = { temperature, topK, topP, seed, step: number * 2 ** 32 + step }
    return ops.multinomial(row, out ? { ...options, out } : options)
  }
  if (numbers.length === 1) return draw(logits, numbers[0]!)
  const out = logits.device.empty([numbers.length, 1], 'int32')
  for (const [row, number] of numbers.entries())
    draw(logits.rows(row, row + 1), number, out.rows(row, row + 1))
  return out
}

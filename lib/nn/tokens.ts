// Token numbers of the user as tensors.

import type { Device } from '../device.js'
import {
  encodeIndices,
  type IndexRule,
  isNumericData,
  type NumericData,
  readNumbers,
} from '../encode.js'
import { fail } from '../errors.js'
import { tensorOf } from '../new-tensor.js'
import { defaultIgnoreIndex } from '../ops/target-weights.js'
import { formatShape, Tensor, tensorHandle } from '../tensor.js'

/** Token numbers: an int32 tensor `[time]` or `[batch, time]`, or numbers of one sequence. */
export type Tokens = Tensor | NumericData

/** Tokens as they are computed with. */
export interface TokenBatch {
  /** `[batch, time]` int32, a view or a copy of the user's. */
  tensor: Tensor
  /** As the user's: `[time]` or `[batch, time]`. */
  shape: readonly number[]
}

/** What the tokens of a model must be. */
export interface TokenLimits {
  device: Device
  vocabSize: number
  contextLength: number
}

/** Which numbers are tokens of a model, or mark what is left out. */
export function tokenRule(vocabSize: number, ignored: readonly number[]): IndexRule {
  const marks = [...new Set(ignored)].join(' and ')
  return {
    limit: vocabSize,
    limitName: `vocabSize ${vocabSize}`,
    ignored,
    hint: (token) =>
      Number.isInteger(token) && (token as number) >= vocabSize
        ? `A model with vocabSize ${(token as number) + 1} would take it.`
        : `Tokens are integers from 0${marks && `; what is left out is marked by ${marks}`}.`,
  }
}

/** @throws ERR_SHAPE, ERR_DTYPE, ERR_DISPOSED, ERR_DEVICE_MISMATCH */
export function checkTokenTensor(
  where: string,
  name: string,
  tokens: Tensor,
  device: Device,
): Tensor {
  tensorHandle(where, name, tokens, device)
  const { shape, dtype } = tokens
  if (shape.length !== 1 && shape.length !== 2)
    fail('ERR_SHAPE', where, name, 'have shape [time] or [batch, time]', formatShape(shape))
  if (dtype !== 'int32') fail('ERR_DTYPE', where, name, 'be int32', dtype)
  return tokens
}

/** @throws ERR_VALUE for more tokens than the model can see. */
export function checkTime(where: string, name: string, time: number, contextLength: number): void {
  if (time <= contextLength) return
  const requirement = `have at most contextLength ${contextLength} tokens a sequence`
  const hint = `Cut it into pieces, or make the model with contextLength ${time}.`
  fail('ERR_VALUE', where, name, requirement, time, hint)
}

/** The input of a model. @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_INDEX_RANGE */
export function toTokens(where: string, tokens: Tokens, limits: TokenLimits): TokenBatch {
  const batch = toBatch(where, 'tokens', tokens, limits, [-1])
  checkTime(where, 'tokens', batch.tensor.shape[1]!, limits.contextLength)
  return batch
}

/**
 * Targets, one for each token.
 * @returns `[batch * time]`
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_INDEX_RANGE, and ERR_VALUE for numbers that are all ignored
 */
export function toTargets(
  where: string,
  targets: Tokens,
  tokens: TokenBatch,
  limits: TokenLimits,
  ignoreIndex = defaultIgnoreIndex,
): Tensor {
  const { tensor, shape } = toBatch(where, 'targets', targets, limits, [-1, ignoreIndex])
  if (formatShape(shape) !== formatShape(tokens.shape)) {
    const requirement = `have the shape of the tokens, ${formatShape(tokens.shape)}`
    fail('ERR_SHAPE', where, 'targets', requirement, formatShape(shape))
  }
  if (tensor.size === 0)
    fail('ERR_SHAPE', where, 'tokens', 'have at least one token', formatShape(shape))
  return tensor.reshape([tensor.size])
}

function toBatch(
  where: string,
  name: string,
  tokens: Tokens,
  { device, vocabSize }: TokenLimits,
  ignored: readonly number[],
): TokenBatch {
  if (!Tensor.is(tokens)) {
    if (!isNumericData(tokens)) {
      const requirement = 'be an int32 Tensor, a typed array or an array of integers'
      fail('ERR_DTYPE', where, name, requirement, tokens)
    }
    const numbers = readNumbers(where, name, tokens)
    const values = encodeIndices(where, name, numbers, tokenRule(vocabSize, ignored))
    const { length } = numbers
    let ignoredFirst = 0 // how many, before the first that counts
    while (ignoredFirst < length && ignored.includes(values[ignoredFirst]!)) ignoredFirst++
    if (name === 'targets' && length > 0 && ignoredFirst === length) {
      const marks = [...new Set(ignored)].join(' and ')
      const hint = `A token from 0 to ${vocabSize - 1} counts; ${marks} are ignored.`
      fail('ERR_VALUE', where, name, 'have at least one that counts', `only ${marks}`, hint)
    }
    const exact = { kind: 'Int32Array', length, values } as const
    return { tensor: tensorOf(where, name, exact, device, [1, length]), shape: [length] }
  }
  const { shape } = checkTokenTensor(where, name, tokens, device)
  return { tensor: tokens.reshape(shape.length === 2 ? shape : [1, ...shape]), shape }
}

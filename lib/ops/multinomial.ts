import { native } from '../binding.js'
import { fail } from '../errors.js'
import { checkFloat32, checkInteger, checkNumber, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Options of {@link multinomial}. */
export interface MultinomialOptions extends OutOptions {
  /** The logits are divided by it. Default 1; 0 takes the largest logit. */
  temperature?: number
  /** Only the so many largest logits are drawn. Default: all. */
  topK?: number
  /**
   * Only the fewest largest logits are drawn whose probabilities, of what `topK` left, sum to this
   * or more (nucleus sampling, Holtzman et al. 2020). Over 0 to 1, default 1: all.
   */
  topP?: number
  /** Samples of each row, with replacement. Default 1. */
  samples?: number
  /** Default 0. */
  seed?: number
  /** A counter: each step has samples of its own. Default 0. */
  step?: number
}

/**
 * Samples of the last axis with the probabilities `softmax(logits / temperature)`, the same on
 * every device: they follow from seed, step, row and the number of the sample. For weights w draw
 * from log(w). Ties are in the order of indices. NaN and -Infinity are never drawn, +Infinity rules
 * out all that is finite, and a row with nothing to draw gives -1. Logits whose probability is
 * below 2^-40 of the largest count as -Infinity.
 * @param logits `[..., n]` float32, n from 1 to 2^23
 * @returns indices `[..., samples]` int32; there is no gradient
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function multinomial(logits: Tensor, options?: MultinomialOptions): Tensor<'int32'> {
  const where = 'multinomial'
  const names = ['temperature', 'topP', 'topK', 'samples', 'seed', 'step', 'out']
  const checked = checkOptions(where, options, names)
  const { handles, device, out } = checkTensors(where, { logits }, checked.out)
  const topP = checkNumber(where, 'topP', checked.topP ?? 1, 0)
  if (topP === 0 || topP > 1) fail('ERR_VALUE', where, 'topP', 'be over 0 and at most 1', topP)
  const indices = native.multinomial(
    out,
    handles.logits,
    checkFloat32(where, 'temperature', checked.temperature ?? 1, 0),
    checked.topK === undefined ? 0 : checkInteger(where, 'topK', checked.topK),
    topP,
    checkInteger(where, 'samples', checked.samples ?? 1, 1, 2 ** 31 - 1),
    checkInteger(where, 'seed', checked.seed ?? 0, 0),
    checkInteger(where, 'step', checked.step ?? 0, 0),
  )
  return resultTensor(device, indices, checked.out) as Tensor as Tensor<'int32'>
}

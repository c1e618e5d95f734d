import { recorded } from '../autograd/record.js'
import { native, type TensorHandle } from '../binding.js'
import { fail } from '../errors.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Options of {@link dropout}. */
export interface DropoutOptions extends OutOptions {
  /** The probability of each element to be dropped: from 0 to below 1. */
  p: number
  /** Default 0. */
  seed?: number
  /** A counter: each step has a mask of its own. Default 0. */
  step?: number
}

function checkDropout(where: string, x: Tensor, name: string, options: DropoutOptions) {
  const checked = checkOptions(where, options, ['p', 'seed', 'step', 'out'])
  const { handles, device, out } = checkTensors(where, { [name]: x }, checked.out)
  const p = checkNumber(where, 'p', checked.p, 0)
  if (p >= 1) fail('ERR_VALUE', where, 'p', 'be below 1', p, 'Where all is dropped, leave it out.')
  return {
    x: handles[name]!,
    p,
    seed: checkInteger(where, 'seed', checked.seed ?? 0, 0),
    step: checkInteger(where, 'step', checked.step ?? 0, 0),
    device,
    out,
    given: checked.out,
  }
}

/**
 * Dropout (Srivastava et al. 2014): `x / (1 - p)` where an element is kept, else 0, whatever x is.
 * Which are kept follows from seed, step and the element's number, the same on every device. With p
 * 0 a copy. `out` may be x.
 * @param x `[...]` float32
 * @returns of the shape of x, float32
 * @throws ERR_DTYPE, ERR_SHAPE, ERR_VALUE for p outside [0, 1)
 */
export function dropout(x: Tensor, options: DropoutOptions): Tensor<'float32'> {
  return maskedDropout(x, options)
}

/** @internal Which random words a mask is made of. */
export interface MaskNumbers {
  seed: number
  step: number
  /** In a capture the seed, and what the step is added to, on the device. */
  onDevice?: TensorHandle | undefined
}

/** @internal {@link dropout}, with numbers that may be on the device. */
export function maskedDropout(
  x: Tensor,
  options: DropoutOptions,
  onDevice?: TensorHandle,
): Tensor<'float32'> {
  const where = 'dropout'
  const c = checkDropout(where, x, 'x', options)
  const { p, seed, step, given } = c
  const forward = () =>
    resultTensor(c.device, native.dropout(c.out, c.x, p, seed, step, onDevice), given)
  return recorded(where, { x }, given, forward, () => ({
    saved: {},
    backward: (dy) => ({ x: maskedBackward(dy, { p, seed, step }, onDevice) }),
  }))
}

/**
 * The gradient of {@link dropout}, with its options: the same mask of dy. `out` may be dy.
 * @param dy `[...]` float32
 * @returns dx, of the shape of dy, float32
 * @throws ERR_DTYPE, ERR_SHAPE, ERR_VALUE for p outside [0, 1)
 */
export function dropoutBackward(dy: Tensor, options: DropoutOptions): Tensor<'float32'> {
  return maskedBackward(dy, options)
}

function maskedBackward(
  dy: Tensor,
  options: DropoutOptions,
  onDevice?: TensorHandle,
): Tensor<'float32'> {
  const { out, x, p, seed, step, device, given } = checkDropout(
    'dropoutBackward',
    dy,
    'dy',
    options,
  )
  return resultTensor(device, native.dropoutBackward(out, x, p, seed, step, onDevice), given)
}

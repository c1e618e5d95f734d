import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { fail } from '../errors.js'
import { checkInteger, checkNumber, checkOptions } from '../options.js'
import { optionalTensorHandle, type Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Options of {@link rope}. */
export interface RopeOptions extends OutOptions {
  /** Base of the angles, from 1. Default 10000. */
  theta?: number
  /** Position of the first token, after those in a key-value cache. Default 0. */
  offset?: number
  /** Positions instead, `[time]` or `[batch, time]` int32: of prompts that start anywhere. */
  positions?: Tensor
}

function checkRope(where: string, x: Tensor, name: string, options: RopeOptions | undefined) {
  const checked = checkOptions(where, options, ['theta', 'offset', 'positions', 'out'])
  const { handles, device, out } = checkTensors(where, { [name]: x }, checked.out)
  const positions = optionalTensorHandle(where, 'positions', checked.positions, device)
  if (positions && checked.offset !== undefined)
    fail('ERR_VALUE', where, 'offset', 'be left out where there are "positions"', checked.offset)
  return {
    x: handles[name]!,
    positions,
    theta: checkNumber(where, 'theta', checked.theta ?? 10000, 1),
    offset: checkInteger(where, 'offset', checked.offset ?? 0, 0, 2 ** 31 - 1),
    device,
    out,
    checked,
  }
}

/**
 * Rotary position embedding (Su et al. 2021), with the pairs of Hugging Face's Llama: element i of
 * a head turns with element i + headDim / 2, by `position * theta^(-2i / headDim)`. Angles are as
 * exact at large positions as at small ones, and the bits are the same on every device. `out` may
 * be x.
 * @param x `[batch, time, heads, headDim]` float32, headDim even
 * @returns of the shape of x, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function rope(x: Tensor, options?: RopeOptions): Tensor<'float32'> {
  const where = 'rope'
  const c = checkRope(where, x, 'x', options)
  const { out, ...angles } = c.checked
  const forward = () =>
    resultTensor(c.device, native.rope(c.out, c.x, c.positions, c.theta, c.offset), out)
  return recorded(where, { x }, out, forward, () => ({
    saved: { positions: angles.positions },
    backward: (dy) => ({ x: ropeBackward(dy, angles) }),
  }))
}

/**
 * The gradient of {@link rope}, with its options: the rotation back. `out` may be dy.
 * @param dy `[batch, time, heads, headDim]` float32
 * @returns dx, of the shape of dy, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function ropeBackward(dy: Tensor, options?: RopeOptions): Tensor<'float32'> {
  const c = checkRope('ropeBackward', dy, 'dy', options)
  const dx = native.ropeBackward(c.out, c.x, c.positions, c.theta, c.offset)
  return resultTensor(c.device, dx, c.checked.out)
}

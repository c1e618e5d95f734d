import { recorded } from '../autograd/record.js'
import { checkAxis } from '../axes.js'
import { native } from '../binding.js'
import type { DType } from '../dtype.js'
import { fail, isArray } from '../errors.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Each axis of `rank` once. */
function checkAxes(where: string, axes: readonly number[], rank: number): number[] {
  const requirement = `have each axis from 0 to ${rank - 1} once`
  if (!isArray(axes)) fail('ERR_VALUE', where, 'axes', requirement, axes)
  const checked: number[] = []
  for (let i = 0; i < axes.length && i < rank; i++)
    checked.push(checkAxis(where, `axes[${i}]`, axes[i], rank))
  if (axes.length !== rank || new Set(checked).size !== rank)
    fail('ERR_VALUE', where, 'axes', requirement, `[${checked.join(', ')}]`)
  return checked
}

/**
 * A copy with the axes in another order: axis a of the result is axis `axes[a]` of x.
 * @param x any shape and dtype
 * @param axes each axis of x once; negative: from the last
 * @returns of the dtype of x
 * @throws ERR_VALUE for other axes, ERR_SHAPE, ERR_DTYPE for another `out`
 */
export function permute<D extends DType>(
  x: Tensor<D>,
  axes: readonly number[],
  options?: OutOptions,
): Tensor<D> {
  const where = 'permute'
  const checked = checkOptions(where, options, ['out'])
  const { handles, device, out } = checkTensors(where, { x }, checked.out)
  const order = checkAxes(where, axes, x.shape.length)
  const forward = () => resultTensor(device, native.permute(out, handles.x, order), checked.out)
  return recorded<'x', Tensor>(where, { x }, checked.out, forward, () => ({
    saved: {},
    backward: (dy) => ({ x: permuteBackward(dy, order) }),
  })) as Tensor<D>
}

/**
 * The gradient of {@link permute}: dy with its axes back in order.
 * @param dy `[...]`, the shape of the result
 * @param axes as given to it
 * @returns dx, of the dtype of dy
 * @throws ERR_VALUE, ERR_SHAPE, ERR_DTYPE as {@link permute}
 */
export function permuteBackward<D extends DType>(
  dy: Tensor<D>,
  axes: readonly number[],
  options?: OutOptions,
): Tensor<D> {
  const where = 'permuteBackward'
  const checked = checkOptions(where, options, ['out'])
  const { handles, device, out } = checkTensors(where, { dy }, checked.out)
  const forward = checkAxes(where, axes, dy.shape.length)
  const back = forward.map((_, axis) => forward.indexOf(axis))
  return resultTensor(
    device,
    native.permute(out, handles.dy, back),
    checked.out,
  ) as Tensor as Tensor<D>
}

import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import type { DType } from '../dtype.js'
import { fail, isArray } from '../errors.js'
import { checkInteger, checkOptions } from '../options.js'
import { checkShape } from '../shape.js'
import { formatShape, Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/**
 * Options of {@link slice}: a number for each axis, from the first. An axis without one, or with
 * undefined, is whole. Negative numbers count from the end, as in NumPy; all must be on the axis.
 */
export interface SliceOptions extends OutOptions {
  /** The first element of each axis. */
  begin?: readonly (number | undefined)[]
  /** The element behind the last of each axis. */
  end?: readonly (number | undefined)[]
}

/** The box [begin, begin + size) that the options say. */
function checkBox(
  where: string,
  shape: readonly number[],
  options: { begin?: SliceOptions['begin']; end?: SliceOptions['end'] },
): { begin: number[]; size: number[] } {
  const given = { begin: options.begin ?? [], end: options.end ?? [] }
  for (const name of ['begin', 'end'] as const) {
    if (!isArray(given[name]) || given[name].length > shape.length) {
      const requirement = `be an array of at most ${shape.length} numbers, one for each axis`
      fail('ERR_VALUE', where, name, requirement, given[name])
    }
  }
  const begin: number[] = []
  const size: number[] = []
  for (const [axis, length] of shape.entries()) {
    const of = (name: 'begin' | 'end', whole: number): number => {
      const value = given[name][axis]
      if (value === undefined) return whole
      const checked = checkInteger(where, `${name}[${axis}]`, value, -length, length)
      return checked < 0 ? checked + length : checked
    }
    const [first, last] = [of('begin', 0), of('end', length)]
    if (first > last)
      fail('ERR_VALUE', where, `end[${axis}]`, `be at or behind begin, ${first}`, last)
    begin.push(first)
    size.push(last - first)
  }
  return { begin, size }
}

/**
 * A box of a tensor, copied: elements `begin` … `end - 1` of each axis. Rows of the first axis can
 * be had without a copy by {@link Tensor.rows}.
 * @param x `[...]` any dtype
 * @returns of the dtype of x
 * @throws ERR_VALUE for what is not on the axis, ERR_SHAPE, ERR_DTYPE for another `out`
 */
export function slice<D extends DType>(x: Tensor<D>, options?: SliceOptions): Tensor<D> {
  const where = 'slice'
  const checked = checkOptions(where, options, ['begin', 'end', 'out'])
  const { handles, device, out } = checkTensors(where, { x }, checked.out)
  const { begin, size } = checkBox(where, x.shape, checked)
  const forward = () => {
    return resultTensor(device, native.slice(out, handles.x, begin, size), checked.out)
  }
  const { shape } = x
  return recorded<'x', Tensor>(where, { x }, checked.out, forward, () => ({
    saved: {},
    backward: (dy) => {
      const dx = native.sliceBackward(undefined, dy.handle(where, 'dy'), begin, shape)
      return { x: new Tensor(device, dx) }
    },
  })) as Tensor<D>
}

/**
 * The gradient of {@link slice}, with its begin and end: zeros with dy in the box.
 * @param dy `[...]`, the shape of the result
 * @param shape of x
 * @returns dx, of the shape of x and the dtype of dy
 * @throws ERR_SHAPE, ERR_VALUE for what is not on the axis
 */
export function sliceBackward<D extends DType>(
  dy: Tensor<D>,
  shape: readonly number[],
  options?: SliceOptions,
): Tensor<D> {
  const where = 'sliceBackward'
  const checked = checkOptions(where, options, ['begin', 'end', 'out'])
  const { handles, device, out } = checkTensors(where, { dy }, checked.out)
  const sizes = checkShape(where, shape)
  const { begin, size } = checkBox(where, sizes, checked)
  if (formatShape(size) !== formatShape(dy.shape))
    fail('ERR_SHAPE', where, 'dy', `have shape ${formatShape(size)}`, formatShape(dy.shape))
  const dx = native.sliceBackward(out, handles.dy, begin, sizes)
  return resultTensor(device, dx, checked.out) as Tensor as Tensor<D>
}

import { recorded } from '../autograd/record.js'
import { checkAxes } from '../axes.js'
import { native } from '../binding.js'
import { checkBoolean, checkOptions } from '../options.js'
import { checkShape } from '../shape.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

// In the order of native/ops/reduce.h.
const kinds = ['sum', 'mean', 'max'] as const

/** Options of {@link sum}, {@link mean}, {@link max} and their gradients. */
export interface ReduceOptions extends OutOptions {
  /** The axes to reduce; negative ones count from the end. Default: all. */
  axes?: number | readonly number[]
  /** Whether the reduced axes stay, with size 1. Default false. */
  keepDims?: boolean
}

const optionNames = ['axes', 'keepDims', 'out']

function reduce(
  where: (typeof kinds)[number],
  x: Tensor,
  options: ReduceOptions | undefined,
): Tensor<'float32'> {
  const { out, ...checked } = checkOptions(where, options, optionNames)
  const forward = () => {
    const { handles, device, out: given } = checkTensors(where, { x }, out)
    const axes = checkAxes(where, checked.axes, x.shape.length)
    const keepDims = checkBoolean(where, 'keepDims', checked.keepDims ?? false)
    const y = native.reduce(where, given, handles.x, axes, keepDims, kinds.indexOf(where))
    return resultTensor(device, y, out)
  }
  return recorded(where, { x }, out, forward, (y) => {
    if (where === 'max')
      return { saved: { x, y }, backward: (dy) => ({ x: maxBackward(dy, x, y, checked) }) }
    const { shape } = x
    return {
      saved: {},
      backward: (dy) => ({ x: sumOrMeanBackward(where, dy, shape, checked) }),
    }
  })
}

function sumOrMeanBackward(
  of: 'sum' | 'mean',
  dy: Tensor,
  shape: readonly number[],
  options: ReduceOptions | undefined,
): Tensor<'float32'> {
  const where = `${of}Backward`
  const checked = checkOptions(where, options, optionNames)
  const { handles, device, out } = checkTensors(where, { dy }, checked.out)
  const sizes = checkShape(where, shape)
  const axes = checkAxes(where, checked.axes, sizes.length)
  const keepDims = checkBoolean(where, 'keepDims', checked.keepDims ?? false)
  const kind = kinds.indexOf(of)
  const dx = native.sumBackward(where, out, handles.dy, sizes, axes, keepDims, kind)
  return resultTensor(device, dx, checked.out)
}

/**
 * The sum over axes; 0 of no elements. It is made of float32 sums of blocks in an order that
 * depends on the shape alone.
 * @param x `[...]` float32
 * @returns `[...]` without the axes, or with size 1 there, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sum(x: Tensor, options?: ReduceOptions): Tensor<'float32'> {
  return reduce('sum', x, options)
}

/**
 * The mean over axes, made as {@link sum}; NaN of no elements.
 * @param x `[...]` float32
 * @returns `[...]` without the axes, or with size 1 there, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function mean(x: Tensor, options?: ReduceOptions): Tensor<'float32'> {
  return reduce('mean', x, options)
}

/**
 * The max over axes. NaN counts as the greatest; of no elements there is no max, which is
 * ERR_SHAPE.
 * @param x `[...]` float32
 * @returns `[...]` without the axes, or with size 1 there, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function max(x: Tensor, options?: ReduceOptions): Tensor<'float32'> {
  return reduce('max', x, options)
}

/**
 * The gradient of {@link sum}: dy for each element of its sum.
 * @param dy the shape of the sum, float32
 * @param shape `[...]` of x
 * @param options those of the sum
 * @returns the shape of x, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sumBackward(
  dy: Tensor,
  shape: readonly number[],
  options?: ReduceOptions,
): Tensor<'float32'> {
  return sumOrMeanBackward('sum', dy, shape, options)
}

/**
 * The gradient of {@link mean}: dy over the number of elements, for each of them.
 * @param dy the shape of the mean, float32
 * @param shape `[...]` of x
 * @param options those of the mean
 * @returns the shape of x, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function meanBackward(
  dy: Tensor,
  shape: readonly number[],
  options?: ReduceOptions,
): Tensor<'float32'> {
  return sumOrMeanBackward('mean', dy, shape, options)
}

/**
 * The gradient of {@link max}: dy for the first element, in row-major order, that is the max, and 0
 * for the others. `out` may be x.
 * @param dy `[…]` in the shape of y, float32
 * @param x `[…]` any shape, float32
 * @param y `[…]` the max, float32
 * @param options those of the max
 * @returns the shape of x, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function maxBackward(
  dy: Tensor,
  x: Tensor,
  y: Tensor,
  options?: ReduceOptions,
): Tensor<'float32'> {
  const where = 'maxBackward'
  const checked = checkOptions(where, options, optionNames)
  const { handles, device, out } = checkTensors(where, { dy, x, y }, checked.out)
  const axes = checkAxes(where, checked.axes, x.shape.length)
  const keepDims = checkBoolean(where, 'keepDims', checked.keepDims ?? false)
  const dx = native.maxBackward(out, handles.dy, handles.x, handles.y, axes, keepDims)
  return resultTensor(device, dx, checked.out)
}

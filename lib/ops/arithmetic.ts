import { native, type TensorHandle } from '../binding.js'
import { fail } from '../errors.js'
import { checkFloat32, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

// In the order of native/ops/arithmetic.h.
const kinds = ['add', 'sub', 'mul', 'div'] as const

/** Options of {@link add}. */
export interface AddOptions extends OutOptions {
  /** Factor of x, default 1. */
  alpha?: number
  /** Factor of y, default 1. */
  beta?: number
}

function arithmetic(
  where: (typeof kinds)[number],
  x: Tensor | number,
  y: Tensor | number,
  { alpha, beta, out }: AddOptions,
): Tensor<'float32'> {
  const tensors: { x?: Tensor; y?: Tensor } = {}
  if (typeof x !== 'number') tensors.x = x
  if (typeof y !== 'number') tensors.y = y
  else if (typeof x === 'number')
    fail('ERR_DTYPE', where, 'y', 'be a Tensor where x is a number', y)
  const checked = checkTensors(where, tensors as { x: Tensor; y: Tensor }, out)
  const handles: { x?: TensorHandle; y?: TensorHandle } = checked.handles
  const result = native.arithmetic(
    where,
    checked.out,
    handles.x,
    typeof x === 'number' ? checkFloat32(where, 'x', x) : 0,
    handles.y,
    typeof y === 'number' ? checkFloat32(where, 'y', y) : 0,
    kinds.indexOf(where),
    checkFloat32(where, 'alpha', alpha ?? 1),
    checkFloat32(where, 'beta', beta ?? 1),
  )
  return resultTensor(checked.device, result, out)
}

/**
 * `alpha * x + beta * y`, elementwise. The operands are broadcast as in NumPy: axes are matched
 * from the last, and a size of 1, or an axis that is missing, stands for any size. `out` may be an
 * operand that has its shape.
 * @param x any shape, float32, or a number, which stands for a tensor of it
 * @param y a shape that broadcasts with that of x, float32, or a number, if x is a tensor
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function add(
  x: Tensor | number,
  y: Tensor | number,
  options?: AddOptions,
): Tensor<'float32'> {
  return arithmetic('add', x, y, checkOptions('add', options, ['alpha', 'beta', 'out']))
}

/**
 * `x - y`, elementwise, with operands as {@link add} takes them.
 * @param x any shape, float32, or a number
 * @param y a shape that broadcasts with that of x, float32, or a number
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function sub(
  x: Tensor | number,
  y: Tensor | number,
  options?: OutOptions,
): Tensor<'float32'> {
  return arithmetic('sub', x, y, checkOptions('sub', options, ['out']))
}

/**
 * `x * y`, elementwise, with operands as {@link add} takes them.
 * @param x any shape, float32, or a number
 * @param y a shape that broadcasts with that of x, float32, or a number
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function mul(
  x: Tensor | number,
  y: Tensor | number,
  options?: OutOptions,
): Tensor<'float32'> {
  return arithmetic('mul', x, y, checkOptions('mul', options, ['out']))
}

/**
 * `x / y`, elementwise, with operands as {@link add} takes them.
 * @param x any shape, float32, or a number
 * @param y a shape that broadcasts with that of x, float32, or a number
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function div(
  x: Tensor | number,
  y: Tensor | number,
  options?: OutOptions,
): Tensor<'float32'> {
  return arithmetic('div', x, y, checkOptions('div', options, ['out']))
}

import { recorded } from '../autograd/record.js'
import { native, type TensorHandle } from '../binding.js'
import { fail } from '../errors.js'
import { checkFloat32, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'
import { sum } from './reduce.js'

// In the order of native/ops/arithmetic.h.
const kinds = ['add', 'sub', 'mul', 'div'] as const
type Kind = (typeof kinds)[number]

/** Options of {@link add}. */
export interface AddOptions extends OutOptions {
  /** Factor of x, default 1. */
  alpha?: number
  /** Factor of y, default 1. */
  beta?: number
}

/** A call that is recorded. */
interface Call {
  x: Tensor | number
  y: Tensor | number
  alpha: number
  beta: number
  result: Tensor
}

/** Of each kind: what its gradients read, and they in the shape of the result; dz may be one. */
interface Derivatives {
  saved(call: Call): Record<string, Tensor | undefined>
  x(dz: Tensor, call: Call): Tensor
  y(dz: Tensor, call: Call): Tensor
}

const derivatives: Record<Kind, Derivatives> = {
  add: {
    saved: () => ({}),
    x: (dz, { alpha }) => (alpha === 1 ? dz : mul(dz, alpha)),
    y: (dz, { beta }) => (beta === 1 ? dz : mul(dz, beta)),
  },
  sub: {
    saved: () => ({}),
    x: (dz) => dz,
    y: (dz) => mul(dz, -1),
  },
  mul: {
    saved: ({ x, y }) => ({
      x: tensorOf(y)?.requiresGrad ? tensorOf(x) : undefined,
      y: tensorOf(x)?.requiresGrad ? tensorOf(y) : undefined,
    }),
    x: (dz, { y }) => mul(dz, y),
    y: (dz, { x }) => mul(dz, x),
  },
  div: {
    saved: ({ y, result }) => ({
      y: tensorOf(y),
      result: tensorOf(y)?.requiresGrad ? result : undefined,
    }),
    x: (dz, { y }) => div(dz, y),
    // -dz x / y^2
    y: (dz, { y, result }) => {
      const dy = div(result, y)
      mul(dz, dy, { out: dy })
      return mul(dy, -1, { out: dy })
    },
  },
}

function arithmetic(
  where: Kind,
  x: Tensor | number,
  y: Tensor | number,
  options: AddOptions,
): Tensor<'float32'> {
  const { out } = options
  const alpha = checkFloat32(where, 'alpha', options.alpha ?? 1)
  const beta = checkFloat32(where, 'beta', options.beta ?? 1)
  const operands = { x: tensorOf(x), y: tensorOf(y) }
  const forward = () => run(where, x, y, alpha, beta, out)
  return recorded(where, operands, out, forward, (result) => {
    const call = { x, y, alpha, beta, result }
    const [shapeX, shapeY] = [operands.x?.shape, operands.y?.shape]
    const of = derivatives[where]
    return {
      saved: of.saved(call),
      backward: (dz, needs) => ({
        ...(needs.x && { x: summedTo(shapeX!, of.x(dz, call), dz) }),
        ...(needs.y && { y: summedTo(shapeY!, of.y(dz, call), dz) }),
      }),
    }
  })
}

function run(
  where: Kind,
  x: Tensor | number,
  y: Tensor | number,
  alpha: number,
  beta: number,
  out: Tensor | undefined,
): Tensor<'float32'> {
  const tensors: { x?: Tensor; y?: Tensor } = {}
  if (typeof x !== 'number') tensors.x = x
  if (typeof y !== 'number') tensors.y = y
  else if (!tensors.x) fail('ERR_DTYPE', where, 'y', 'be a Tensor where x is a number', y)
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
    alpha,
    beta,
  )
  return resultTensor(checked.device, result, out)
}

/** An operand that is no number. */
function tensorOf(operand: Tensor | number): Tensor | undefined {
  return typeof operand === 'number' ? undefined : operand
}

/** A gradient summed over the axes in which an operand of `shape` was broadcast. */
function summedTo(shape: readonly number[], gradient: Tensor, dz: Tensor): Tensor {
  const added = gradient.shape.length - shape.length
  const axes = gradient.shape.flatMap((size, axis) =>
    axis < added || (shape[axis - added] === 1 && size !== 1) ? [axis] : [],
  )
  if (axes.length === 0) return gradient
  const total = sum(gradient, { axes })
  if (gradient !== dz) gradient.dispose()
  const shaped = total.reshape(shape)
  total.dispose()
  return shaped
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

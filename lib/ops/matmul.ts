import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { type Compute, computeCode } from '../compute.js'
import { checkBoolean, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import {
  checkTensors,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'

/** Which operands of {@link matmul} are transposed, in their last two axes, and what is rounded. */
export interface MatmulTransposes {
  /** Of the products. Default 'float32'. */
  compute?: Compute
  /** Default false. */
  transposeX?: boolean
  /** Default false. */
  transposeY?: boolean
}

/** Options of {@link matmul}. */
export interface MatmulOptions extends MatmulTransposes, OutOptions {}

/** Options of {@link matmulBackward}: the transposes are those of the product. */
export interface MatmulBackwardOptions extends MatmulTransposes, Outputs<'dx' | 'dy'> {
  /** Which gradients to compute; default both. */
  needs?: { x?: boolean; y?: boolean }
}

/**
 * Products of matrices, which are the last two axes, summed in float32. The axes before them are
 * broadcast as in NumPy. A vector is reshaped to a matrix of one row or column first: operands have
 * two axes or more. With `compute` 'bfloat16' x and y are rounded first, here and in the gradients,
 * and y may have another float dtype than x.
 * @param x `[..., M, K]`, or `[..., K, M]` if transposed; float32, float16 or bfloat16
 * @param y `[..., K, N]`, or `[..., N, K]` if transposed; of the dtype of x
 * @returns `[..., M, N]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_UNSUPPORTED
 */
export function matmul(x: Tensor, y: Tensor, options?: MatmulOptions): Tensor<'float32'> {
  const where = 'matmul'
  const names = ['transposeX', 'transposeY', 'compute', 'out']
  const { out, ...checked } = checkOptions(where, options, names)
  const forward = () => {
    const { handles, device, out: given } = checkTensors(where, { x, y }, out)
    const product = native.matmul(
      given,
      handles.x,
      handles.y,
      checkBoolean(where, 'transposeX', checked.transposeX ?? false),
      checkBoolean(where, 'transposeY', checked.transposeY ?? false),
      computeCode(where, device, checked.compute),
    )
    return resultTensor(device, product, out)
  }
  return recorded(where, { x, y }, out, forward, () => ({
    saved: { x, y },
    backward: (dOut, needs) => {
      const { dx, dy } = matmulBackward(dOut, x, y, { ...checked, needs })
      return { x: dx, y: dy }
    },
  }))
}

/**
 * Gradients of {@link matmul}: `dX = dOut Y^T`, `dY = X^T dOut`, summed over the axes that were
 * broadcast. With `compute` 'bfloat16' dOut, x and y are rounded.
 * @param dOut `[..., M, N]` float32
 * @param x as in the product
 * @param y as in the product
 * @returns dx of the shape of x, dy of the shape of y, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_UNSUPPORTED
 */
export function matmulBackward(
  dOut: Tensor,
  x: Tensor,
  y: Tensor,
  options?: MatmulBackwardOptions & { needs?: { x?: true; y?: true } },
): { dx: Tensor<'float32'>; dy: Tensor<'float32'> }
export function matmulBackward(
  dOut: Tensor,
  x: Tensor,
  y: Tensor,
  options: MatmulBackwardOptions,
): { dx?: Tensor<'float32'>; dy?: Tensor<'float32'> }
export function matmulBackward(
  dOut: Tensor,
  x: Tensor,
  y: Tensor,
  options?: MatmulBackwardOptions,
): { dx?: Tensor<'float32'>; dy?: Tensor<'float32'> } {
  const where = 'matmulBackward'
  const names = ['transposeX', 'transposeY', 'compute', 'needs', 'out']
  const { out, ...checked } = checkOptions(where, options, names)
  const needs = checkOptions(where, checked.needs, ['x', 'y'], 'needs')
  const { handles, device } = checkTensors(where, { dOut, x, y })
  const { dx: outX, dy: outY } = outputHandles(where, out, device, ['dx', 'dy'])
  const gradients = native.matmulBackward(
    outX,
    outY,
    handles.dOut,
    handles.x,
    handles.y,
    checkBoolean(where, 'transposeX', checked.transposeX ?? false),
    checkBoolean(where, 'transposeY', checked.transposeY ?? false),
    computeCode(where, device, checked.compute),
    checkBoolean(where, 'needs.x', needs.x ?? true),
    checkBoolean(where, 'needs.y', needs.y ?? true),
  )
  return resultTensors(device, gradients, { dx: out?.dx, dy: out?.dy })
}

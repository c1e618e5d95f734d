import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { type Compute, computeCode } from '../compute.js'
import { checkOptions } from '../options.js'
import { optionalTensorHandle, type Tensor } from '../tensor.js'
import {
  checkTensors,
  neededGradients,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'

/** Options of {@link linear}. */
export interface LinearForwardOptions extends OutOptions {
  /** Of the product. Default 'float32'. */
  compute?: Compute
}

/**
 * `y = x W^T + bias`, summed in float32. With `compute` 'bfloat16' x and W are rounded first, here
 * and in the gradients, and W may have another float dtype than x.
 * @param x `[R, in]` float32, float16 or bfloat16
 * @param weight `[out, in]`, of the dtype of x
 * @param bias `[out]` float32
 * @returns `[R, out]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_UNSUPPORTED
 */
export function linear(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options?: LinearForwardOptions,
): Tensor<'float32'> {
  const checked = checkOptions('linear', options, ['compute', 'out'])
  const { compute } = checked
  const forward = () => {
    const { handles, device, out } = checkTensors('linear', { x, weight }, checked.out)
    const biasHandle = optionalTensorHandle('linear', 'bias', bias, device)
    const code = computeCode('linear', device, compute)
    const y = native.linear(out, handles.x, handles.weight, biasHandle, code)
    return resultTensor(device, y, checked.out)
  }
  return recorded('linear', { x, weight, bias }, checked.out, forward, () => ({
    saved: { x, weight },
    backward: (dy, needs, into) => {
      const gradients = linearBackward(dy, x, weight, {
        needs,
        into: { weight: into.weight, bias: into.bias },
        compute,
      })
      return { x: gradients.dx, weight: gradients.dWeight, bias: gradients.dBias }
    },
  }))
}

/** Options of {@link linearBackward}. */
export interface LinearBackwardOptions extends Outputs<'dx'> {
  /** Which gradients to compute; default all three. */
  needs?: { x?: boolean; weight?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weight?: Tensor; bias?: Tensor }
  /** Of the products, as in the forward. Default 'float32'. */
  compute?: Compute
}

/**
 * Gradients of {@link linear}: `dx = dy W`, `dWeight = dy^T x`, `dBias = sum of the rows of dy`.
 * With `compute` 'bfloat16' dy, x and W are rounded for the two products.
 * @param dy `[R, out]` float32
 * @returns dx `[R, in]`, dWeight `[out, in]`, dBias `[out]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_UNSUPPORTED
 */
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  options?: LinearBackwardOptions & { needs?: { x?: true; weight?: true; bias?: true } },
): { dx: Tensor<'float32'>; dWeight: Tensor<'float32'>; dBias: Tensor<'float32'> }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  options: LinearBackwardOptions & { needs: { x?: true; weight?: true; bias: boolean } },
): { dx: Tensor<'float32'>; dWeight: Tensor<'float32'>; dBias?: Tensor<'float32'> }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  options: LinearBackwardOptions,
): { dx?: Tensor<'float32'>; dWeight?: Tensor<'float32'>; dBias?: Tensor<'float32'> }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  options?: LinearBackwardOptions,
): { dx?: Tensor<'float32'>; dWeight?: Tensor<'float32'>; dBias?: Tensor<'float32'> } {
  const where = 'linearBackward'
  const { out, ...rest } = checkOptions(where, options, ['needs', 'into', 'compute', 'out'])
  const { handles, device } = checkTensors(where, { dy, x, weight })
  const { dx: outX } = outputHandles(where, out, device, ['dx'])
  const { args, intoWeight, intoBias } = neededGradients(where, rest, device, 'weight')
  const gradients = native.linearBackward(
    outX,
    handles.dy,
    handles.x,
    handles.weight,
    computeCode(where, device, rest.compute),
    ...args,
  )
  return resultTensors(device, gradients, { dx: out?.dx, dWeight: intoWeight, dBias: intoBias })
}

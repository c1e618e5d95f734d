import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkInteger, checkOptions } from '../options.js'
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

/** Options of {@link causalConv1d}. */
export interface CausalConv1dOptions extends OutOptions {
  /** Tokens from one tap to the next. Default 1. */
  dilation?: number
}

/**
 * Depthwise convolution over time that reads no later token:
 * `y[b, t, c] = bias[c] + sum over j of weight[c, j] * x[b, t - (width - 1 - j) * dilation, c]`,
 * where x before the first token is 0.
 * @param x `[batch, time, channels]` float32
 * @param weight `[channels, width]` float32; the last of a row is the tap of the token itself
 * @param bias `[channels]` float32; left out: zeros
 * @returns `[batch, time, channels]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function causalConv1d(
  x: Tensor,
  weight: Tensor,
  bias?: Tensor,
  options?: CausalConv1dOptions,
): Tensor<'float32'> {
  const where = 'causalConv1d'
  const checked = checkOptions(where, options, ['dilation', 'out'])
  const dilation = checkInteger(where, 'dilation', checked.dilation ?? 1)
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { x, weight }, checked.out)
    const biasHandle = optionalTensorHandle(where, 'bias', bias, device)
    const y = native.causalConv1d(out, handles.x, handles.weight, biasHandle, dilation)
    return resultTensor(device, y, checked.out)
  }
  return recorded(where, { x, weight, bias }, checked.out, forward, () => ({
    saved: { x, weight },
    backward: (dy, needs, { weight: intoWeight, bias: intoBias }) => {
      const into = { weight: intoWeight, bias: intoBias }
      const options = { dilation, needs, into }
      const { dx, dWeight, dBias } = causalConv1dBackward(dy, x, weight, options)
      return { x: dx, weight: dWeight, bias: dBias }
    },
  }))
}

/** Options of {@link causalConv1dBackward}. */
export interface CausalConv1dBackwardOptions extends Outputs<'dx'> {
  /** As in {@link CausalConv1dOptions}. */
  dilation?: number
  /** Which gradients to compute; default all three. */
  needs?: { x?: boolean; weight?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weight?: Tensor; bias?: Tensor }
}

/**
 * Gradients of {@link causalConv1d}.
 * @param dy `[batch, time, channels]` float32
 * @returns dx `[batch, time, channels]`, dWeight `[channels, width]` and dBias `[channels]`, those
 * that are needed, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function causalConv1dBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  options?: CausalConv1dBackwardOptions,
): { dx?: Tensor<'float32'>; dWeight?: Tensor<'float32'>; dBias?: Tensor<'float32'> } {
  const where = 'causalConv1dBackward'
  const names = ['dilation', 'needs', 'into', 'out']
  const { dilation, out, ...rest } = checkOptions(where, options, names)
  const { handles, device } = checkTensors(where, { dy, x, weight })
  const { dx: outX } = outputHandles(where, out, device, ['dx'])
  const { args, intoWeight, intoBias } = neededGradients(where, rest, device, 'weight')
  const gradients = native.causalConv1dBackward(
    outX,
    handles.dy,
    handles.x,
    handles.weight,
    checkInteger(where, 'dilation', dilation ?? 1),
    ...args,
  )
  return resultTensors(device, gradients, { dx: out?.dx, dWeight: intoWeight, dBias: intoBias })
}

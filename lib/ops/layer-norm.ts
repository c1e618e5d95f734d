import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkFloat32, checkOptions } from '../options.js'
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

/** Options of {@link layerNorm}. */
export interface LayerNormOptions extends OutOptions {
  /** Added to the variance. Default 1e-5. */
  eps?: number
}

/**
 * Layer norm over the last axis (Ba et al. 2016):
 * `y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias`. `out` may be x.
 * @param x `[..., n]` float32
 * @param weight `[n]` float32; left out: ones
 * @param bias `[n]` float32; left out: zeros
 * @returns `[..., n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for a negative eps
 */
export function layerNorm(
  x: Tensor,
  weight?: Tensor,
  bias?: Tensor,
  options?: LayerNormOptions,
): Tensor<'float32'> {
  const where = 'layerNorm'
  const checked = checkOptions(where, options, ['eps', 'out'])
  const eps = checkFloat32(where, 'eps', checked.eps ?? 1e-5, 0)
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { x }, checked.out)
    const weightHandle = optionalTensorHandle(where, 'weight', weight, device)
    const biasHandle = optionalTensorHandle(where, 'bias', bias, device)
    const y = native.layerNorm(out, handles.x, weightHandle, biasHandle, eps)
    return resultTensor(device, y, checked.out)
  }
  return recorded(where, { x, weight, bias }, checked.out, forward, () => ({
    saved: { x, weight },
    backward: (dy, needs, { weight: intoWeight, bias: intoBias }) => {
      const into = { weight: intoWeight, bias: intoBias }
      const { dx, dWeight, dBias } = layerNormBackward(dy, x, weight, { eps, needs, into })
      return { x: dx, weight: dWeight, bias: dBias }
    },
  }))
}

/** Options of {@link layerNormBackward}. */
export interface LayerNormBackwardOptions extends Outputs<'dx'> {
  /** As in {@link LayerNormOptions}. */
  eps?: number
  /** Which gradients to compute; default all three, dWeight where there is a weight. */
  needs?: { x?: boolean; weight?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weight?: Tensor; bias?: Tensor }
}

/**
 * Gradients of {@link layerNorm}.
 * @param dy `[..., n]` float32
 * @returns dx `[..., n]`, dWeight `[n]` and dBias `[n]`, those that are needed, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for a negative eps
 */
export function layerNormBackward(
  dy: Tensor,
  x: Tensor,
  weight?: Tensor,
  options?: LayerNormBackwardOptions,
): { dx?: Tensor<'float32'>; dWeight?: Tensor<'float32'>; dBias?: Tensor<'float32'> } {
  const where = 'layerNormBackward'
  const { eps, out, ...rest } = checkOptions(where, options, ['eps', 'needs', 'into', 'out'])
  const { handles, device } = checkTensors(where, { dy, x })
  const { dx: outX } = outputHandles(where, out, device, ['dx'])
  const { args, intoWeight, intoBias } = neededGradients(
    where,
    rest,
    device,
    'weight',
    weight !== undefined,
  )
  const gradients = native.layerNormBackward(
    outX,
    handles.dy,
    handles.x,
    optionalTensorHandle(where, 'weight', weight, device),
    checkFloat32(where, 'eps', eps ?? 1e-5, 0),
    ...args,
  )
  return resultTensors(device, gradients, { dx: out?.dx, dWeight: intoWeight, dBias: intoBias })
}

import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkFloat32, checkOptions } from '../options.js'
import { optionalTensorHandle, type Tensor } from '../tensor.js'
import {
  checkTensors,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'

/** Options of {@link rmsNorm}. */
export interface RmsNormOptions extends OutOptions {
  /** Added to the mean square. Default 1e-6. */
  eps?: number
}

/**
 * RMS norm over the last axis (Zhang and Sennrich 2019): `y = x / sqrt(mean(x^2) + eps) * gain`.
 * `out` may be x.
 * @param x `[..., n]` float32
 * @param gain `[n]` float32; left out: ones
 * @returns `[..., n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for a negative eps
 */
export function rmsNorm(x: Tensor, gain?: Tensor, options?: RmsNormOptions): Tensor<'float32'> {
  const where = 'rmsNorm'
  const checked = checkOptions(where, options, ['eps', 'out'])
  const eps = checkFloat32(where, 'eps', checked.eps ?? 1e-6, 0)
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { x }, checked.out)
    const gainHandle = optionalTensorHandle(where, 'gain', gain, device)
    return resultTensor(device, native.rmsNorm(out, handles.x, gainHandle, eps), checked.out)
  }
  return recorded(where, { x, gain }, checked.out, forward, () => ({
    saved: { x, gain },
    backward: (dy, _needs, into) => {
      const { dx, dGain } = rmsNormBackward(dy, x, gain, { eps, into: { gain: into.gain } })
      return { x: dx, gain: dGain }
    },
  }))
}

/**
 * Gradients of {@link rmsNorm}.
 * @param dy `[..., n]` float32
 * @param options `into.gain` is added to, instead of a new dGain
 * @returns dx `[..., n]`, and dGain `[n]` if there is a gain, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for a negative eps
 */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  gain?: Tensor,
  options?: { eps?: number; into?: { gain?: Tensor } } & Outputs<'dx'>,
): { dx: Tensor<'float32'>; dGain?: Tensor<'float32'> } {
  const where = 'rmsNormBackward'
  const { eps, out, ...rest } = checkOptions(where, options, ['eps', 'into', 'out'])
  const into = checkOptions(where, rest.into, ['gain'], 'into')
  const { handles, device } = checkTensors(where, { dy, x })
  const { dx: outX } = outputHandles(where, out, device, ['dx'])
  const gradients = native.rmsNormBackward(
    outX,
    handles.dy,
    handles.x,
    optionalTensorHandle(where, 'gain', gain, device),
    checkFloat32(where, 'eps', eps ?? 1e-6, 0),
    optionalTensorHandle(where, 'into.gain', into.gain, device),
  )
  return resultTensors(device, gradients, { dx: out?.dx, dGain: into.gain })
}

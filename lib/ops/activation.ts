import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { checkOptions, choiceIndex } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/** Elementwise functions; gelu is the exact (erf) one. */
export type Activation = 'relu' | 'gelu' | 'silu' | 'sigmoid'

// In the order of native/ops/activation.h.
const activations: readonly Activation[] = ['relu', 'gelu', 'silu', 'sigmoid']

/** @internal The number by which native code knows an activation. */
export function activationCode(where: string, name: Activation): number {
  return choiceIndex(where, 'activation', name, activations)
}

function activation(name: Activation) {
  const code = activations.indexOf(name)
  const backward = activationBackward(name)
  return (x: Tensor, options?: OutOptions): Tensor<'float32'> => {
    const checked = checkOptions(name, options, ['out'])
    const forward = () => {
      const { handles, device, out } = checkTensors(name, { x }, checked.out)
      return resultTensor(device, native.activate(out, handles.x, code), checked.out)
    }
    return recorded(name, { x }, checked.out, forward, () => ({
      saved: { x },
      backward: (dy) => ({ x: backward(dy, x) }),
    }))
  }
}

function activationBackward(name: Activation) {
  const where = `${name}Backward`
  const code = activations.indexOf(name)
  return (dy: Tensor, x: Tensor, options?: OutOptions): Tensor<'float32'> => {
    const checked = checkOptions(where, options, ['out'])
    const { handles, device, out } = checkTensors(where, { dy, x }, checked.out)
    const dx = native.activateBackward(out, handles.dy, handles.x, code)
    return resultTensor(device, dx, checked.out)
  }
}

/**
 * `max(x, 0)`, elementwise, float32; `out` may be x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const relu: (x: Tensor, options?: OutOptions) => Tensor<'float32'> = activation('relu')
/**
 * `x/2 (1 + erf(x / sqrt 2))`, elementwise, float32; `out` may be x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const gelu: (x: Tensor, options?: OutOptions) => Tensor<'float32'> = activation('gelu')
/**
 * `x * sigmoid(x)`, elementwise, float32; `out` may be x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const silu: (x: Tensor, options?: OutOptions) => Tensor<'float32'> = activation('silu')
/**
 * `1 / (1 + exp(-x))`, elementwise, float32; `out` may be x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const sigmoid: (x: Tensor, options?: OutOptions) => Tensor<'float32'> = activation('sigmoid')
/**
 * `dy * relu'(x)`, elementwise, float32; `out` may be dy or x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const reluBackward: (dy: Tensor, x: Tensor, options?: OutOptions) => Tensor<'float32'> =
  activationBackward('relu')
/**
 * `dy * gelu'(x)`, elementwise, float32; `out` may be dy or x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const geluBackward: (dy: Tensor, x: Tensor, options?: OutOptions) => Tensor<'float32'> =
  activationBackward('gelu')
/**
 * `dy * silu'(x)`, elementwise, float32; `out` may be dy or x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const siluBackward: (dy: Tensor, x: Tensor, options?: OutOptions) => Tensor<'float32'> =
  activationBackward('silu')
/**
 * `dy * sigmoid'(x)`, elementwise, float32; `out` may be dy or x.
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export const sigmoidBackward: (dy: Tensor, x: Tensor, options?: OutOptions) => Tensor<'float32'> =
  activationBackward('sigmoid')

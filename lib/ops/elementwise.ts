import { native } from '../binding.js'
import { choice, number, options } from '../options.js'
import type { Tensor } from '../tensor.js'
import { type OutOptions, prepare, wrap } from './call.js'

const activations: readonly Activation[] = ['relu', 'gelu', 'silu', 'sigmoid']
/** Elementwise functions; gelu is the exact (erf) one. */
export type Activation = 'relu' | 'gelu' | 'silu' | 'sigmoid'

/** @internal */
export function activationCode(where: string, name: Activation): number {
  return choice(where, 'activation', name, activations)
}

function activation(name: Activation) {
  return (x: Tensor, given?: OutOptions): Tensor => {
    options(name, given, ['out'])
    const { list, device, out } = prepare(name, { x }, given)
    return wrap(device, native.activate(out, list[0]!, activations.indexOf(name)), given?.out)
  }
}

function activationBackward(name: Activation) {
  const where = `${name}Backward`
  return (dy: Tensor, x: Tensor, given?: OutOptions): Tensor => {
    options(where, given, ['out'])
    const { list, device, out } = prepare(where, { dy, x }, given)
    return wrap(
      device,
      native.activateBackward(out, list[0]!, list[1]!, activations.indexOf(name)),
      given?.out,
    )
  }
}

/** `max(x, 0)`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const relu: (x: Tensor, given?: OutOptions) => Tensor = activation('relu')
/** `x/2 (1 + erf(x / sqrt 2))`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const gelu: (x: Tensor, given?: OutOptions) => Tensor = activation('gelu')
/** `x * sigmoid(x)`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const silu: (x: Tensor, given?: OutOptions) => Tensor = activation('silu')
/** `1 / (1 + exp(-x))`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const sigmoid: (x: Tensor, given?: OutOptions) => Tensor = activation('sigmoid')
/** `dy * relu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const reluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor =
  activationBackward('relu')
/** `dy * gelu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const geluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor =
  activationBackward('gelu')
/** `dy * silu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const siluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor =
  activationBackward('silu')
/** `dy * sigmoid'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const sigmoidBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor =
  activationBackward('sigmoid')

/** Options of the operation of that name. */
export interface AddOptions extends OutOptions {
  /** Factor of x, default 1. */
  alpha?: number
  /** Factor of y, default 1. */
  beta?: number
}

/**
 * `alpha * x + beta * y`, elementwise, float32 of one shape. `out` may be x or y. @throws
 * ERR_SHAPE, ERR_DTYPE
 */
export function add(x: Tensor, y: Tensor, given?: AddOptions): Tensor {
  const o = options('add', given, ['alpha', 'beta', 'out'])
  const { list, device, out } = prepare('add', { x, y }, o)
  const alpha = number('add', 'alpha', o.alpha ?? 1)
  const beta = number('add', 'beta', o.beta ?? 1)
  return wrap(device, native.add(out, list[0]!, list[1]!, alpha, beta), o.out)
}

// Linear maps, gates, norms, softmax and the loss.

import { native } from '../binding.js'
import { boolean, number, options } from '../options.js'
import { optionalHandle, type Tensor } from '../tensor.js'
import { type OutOptions, type Outputs, outputs, prepare, wrap } from './call.js'

/** `y = x W^T + bias`.
 * @param x `[R, in]`, weight `[out, in]` of one dtype: float32, float16 or bfloat16; bias `[out]`
 * float32
 * @returns `[R, out]` float32; sums are float32, too
 * @throws ERR_SHAPE, ERR_DTYPE */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor, given?: OutOptions): Tensor {
  options('linear', given, ['out'])
  const { list, device, out } = prepare('linear', { x, weight }, given)
  return wrap(
    device,
    native.linear(out, list[0]!, list[1]!, optionalHandle('linear', 'bias', bias, device)),
    given?.out,
  )
}

/** Options of the operation of that name. */
export interface LinearBackwardOptions extends Outputs<'dx'> {
  /** Which gradients to make; default all three. */
  needs?: { x?: boolean; weight?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weight?: Tensor; bias?: Tensor }
}

/** Gradients of {@link linear}, float32: `dx = dy W`, `dWeight = dy^T x`, `dBias` = the sum of the rows of dy.
 * @throws ERR_SHAPE, ERR_DTYPE */
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given?: LinearBackwardOptions & { needs?: { x?: true; weight?: true; bias?: true } },
): { dx: Tensor; dWeight: Tensor; dBias: Tensor }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given: LinearBackwardOptions,
): { dx?: Tensor; dWeight?: Tensor; dBias?: Tensor }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given?: LinearBackwardOptions,
): { dx?: Tensor; dWeight?: Tensor; dBias?: Tensor } {
  const where = 'linearBackward'
  const o = options(where, given, ['needs', 'into', 'out'])
  const needs = options(where, o.needs, ['x', 'weight', 'bias'])
  const into = options(where, o.into, ['weight', 'bias'])
  const { list, device } = prepare(where, { dy, x, weight })
  const [outX] = outputs(where, o.out, device, 'dx')
  const r = native.linearBackward(
    outX,
    list[0]!,
    list[1]!,
    list[2]!,
    boolean(where, 'needs.x', needs.x ?? true),
    boolean(where, 'needs.weight', needs.weight ?? true),
    boolean(where, 'needs.bias', needs.bias ?? true),
    optionalHandle(where, 'into.weight', into.weight, device),
    optionalHandle(where, 'into.bias', into.bias, device),
  )
  return {
    ...(r.dx && { dx: wrap(device, r.dx, o.out?.dx) }),
    ...(r.dWeight && { dWeight: wrap(device, r.dWeight, into.weight) }),
    ...(r.dBias && { dBias: wrap(device, r.dBias, into.bias) }),
  }
}

/** The Memory+ gate: `z = y * silu(a)`, `silu(a) = a * sigmoid(a)`. @param y `[R, V]`, a `[R, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function siluGate(y: Tensor, a: Tensor, given?: OutOptions): Tensor {
  options('siluGate', given, ['out'])
  const { list, device, out } = prepare('siluGate', { y, a }, given)
  return wrap(device, native.siluGate(out, list[0]!, list[1]!), given?.out)
}

/** Gradients of {@link siluGate}, each `[R, V]`. @throws ERR_SHAPE, ERR_DTYPE */
export function siluGateBackward(
  dz: Tensor,
  y: Tensor,
  a: Tensor,
  given?: Outputs<'dy' | 'da'>,
): { dy: Tensor; da: Tensor } {
  const where = 'siluGateBackward'
  const { out } = options(where, given, ['out'])
  const { list, device } = prepare(where, { dz, y, a })
  const [dy, da] = outputs(where, out, device, 'dy', 'da')
  const r = native.siluGateBackward(dy, da, list[0]!, list[1]!, list[2]!)
  return { dy: wrap(device, r.dy, out?.dy), da: wrap(device, r.da, out?.da) }
}

/** The output gate: `out[r, :] = y[r, :] * sigmoid(g[r])`. @param y `[R, V]`, g `[R, 1]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function sigmoidGate(y: Tensor, g: Tensor, given?: OutOptions): Tensor {
  options('sigmoidGate', given, ['out'])
  const { list, device, out } = prepare('sigmoidGate', { y, g }, given)
  return wrap(device, native.sigmoidGate(out, list[0]!, list[1]!), given?.out)
}

/** Gradients of {@link sigmoidGate}: dy `[R, V]`, dg `[R, 1]`. @throws ERR_SHAPE, ERR_DTYPE */
export function sigmoidGateBackward(
  dOut: Tensor,
  y: Tensor,
  g: Tensor,
  given?: Outputs<'dy' | 'dg'>,
): { dy: Tensor; dg: Tensor } {
  const where = 'sigmoidGateBackward'
  const { out } = options(where, given, ['out'])
  const { list, device } = prepare(where, { dOut, y, g })
  const [dy, dg] = outputs(where, out, device, 'dy', 'dg')
  const r = native.sigmoidGateBackward(dy, dg, list[0]!, list[1]!, list[2]!)
  return { dy: wrap(device, r.dy, out?.dy), dg: wrap(device, r.dg, out?.dg) }
}

/** Options of the operation of that name. */
export interface RmsNormOptions extends OutOptions {
  /** Default 1e-6. */
  eps?: number
}

/** RMS norm over the last axis (Zhang and Sennrich 2019): `y = x / sqrt(mean(x^2) + eps) * gain`.
 * @param x `[..., n]` float32, gain `[n]` (left out: ones)
 * @throws ERR_SHAPE, ERR_DTYPE */
export function rmsNorm(x: Tensor, gain?: Tensor, given?: RmsNormOptions): Tensor {
  const o = options('rmsNorm', given, ['eps', 'out'])
  const { list, device, out } = prepare('rmsNorm', { x }, o)
  const eps = number('rmsNorm', 'eps', o.eps ?? 1e-6, 0)
  return wrap(
    device,
    native.rmsNorm(out, list[0]!, optionalHandle('rmsNorm', 'gain', gain, device), eps),
    o.out,
  )
}

/** Gradients of {@link rmsNorm}; `dGain` is there when there is a gain. `into` is added to instead of a new tensor. dx `[..., n]`, dGain `[n]`.
 * @throws ERR_SHAPE, ERR_DTYPE */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  gain?: Tensor,
  given?: { eps?: number; into?: { gain?: Tensor } } & Outputs<'dx'>,
): { dx: Tensor; dGain?: Tensor } {
  const where = 'rmsNormBackward'
  const o = options(where, given, ['eps', 'into', 'out'])
  const into = options(where, o.into, ['gain'])
  const { list, device } = prepare(where, { dy, x })
  const [outX] = outputs(where, o.out, device, 'dx')
  const r = native.rmsNormBackward(
    outX,
    list[0]!,
    list[1]!,
    optionalHandle(where, 'gain', gain, device),
    number(where, 'eps', o.eps ?? 1e-6, 0),
    optionalHandle(where, 'into.gain', into.gain, device),
  )
  return {
    dx: wrap(device, r.dx, o.out?.dx),
    ...(r.dGain && { dGain: wrap(device, r.dGain, into.gain) }),
  }
}

/** Softmax over the last axis. @param x `[..., n]` float32 @throws ERR_SHAPE, ERR_DTYPE */
export function softmax(x: Tensor, given?: OutOptions): Tensor {
  options('softmax', given, ['out'])
  const { list, device, out } = prepare('softmax', { x }, given)
  return wrap(device, native.softmax(out, list[0]!), given?.out)
}

/**
 * Gradient of {@link softmax} from its output y `[..., n]`: `dx = y * (dy - sum(y * dy))`. @throws
 * ERR_SHAPE, ERR_DTYPE
 */
export function softmaxBackward(dy: Tensor, y: Tensor, given?: OutOptions): Tensor {
  options('softmaxBackward', given, ['out'])
  const { list, device, out } = prepare('softmaxBackward', { dy, y }, given)
  return wrap(device, native.softmaxBackward(out, list[0]!, list[1]!), given?.out)
}

/** Cross-entropy of each token: `logsumexp(logits[t, :]) - logits[t, targets[t]]`. Target -1 is ignored (loss 0).
 * @param logits `[T, C]` float32, targets `[T]` int32
 * @returns `[T]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function crossEntropy(logits: Tensor, targets: Tensor, given?: OutOptions): Tensor {
  options('crossEntropy', given, ['out'])
  const { list, device, out } = prepare('crossEntropy', { logits, targets }, given)
  return wrap(device, native.crossEntropy(out, list[0]!, list[1]!), given?.out)
}

/** Gradient of {@link crossEntropy}: `dLoss[t] * (softmax(logits[t, :]) - onehot(targets[t]))`. @param dLoss `[T]`
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function crossEntropyBackward(
  dLoss: Tensor,
  logits: Tensor,
  targets: Tensor,
  given?: OutOptions,
): Tensor {
  const where = 'crossEntropyBackward'
  options(where, given, ['out'])
  const { list, device, out } = prepare(where, { dLoss, logits, targets }, given)
  return wrap(device, native.crossEntropyBackward(out, list[0]!, list[1]!, list[2]!), given?.out)
}

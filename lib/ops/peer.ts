import { native, type TensorHandle } from '../binding.js'
import { options } from '../options.js'
import type { Tensor } from '../tensor.js'
import { type Outputs, outputs, prepare, wrap } from './call.js'
import { type Activation, activationCode } from './elementwise.js'
import { SparseGrad } from './sparse-grad.js'

/** Options of {@link peer} and {@link peerBackward}. */
export interface PeerOptions {
  /** Default 'gelu'. */
  activation?: Activation
}

/** Experts of one hidden unit (PEER, He 2024): `output[t] = sum_l weights[t, l] * f(u[t, l]) * up[indices[t, l]]`, `u[t, l] = <x[t], down[indices[t, l]]>`.
 * @param x `[T, C]`, down `[N, C]`, up `[N, Co]`, indices `[T, L]` int32, weights `[T, L]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function peer(
  x: Tensor,
  down: Tensor,
  up: Tensor,
  indices: Tensor,
  weights: Tensor,
  given?: PeerOptions & Outputs<'output' | 'u'>,
): { output: Tensor; u: Tensor } {
  const o = options('peer', given, ['activation', 'out'])
  const { list, device } = prepare('peer', { x, down, up, indices, weights })
  const [xh, d, p, i, w] = list as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ]
  const [output, u] = outputs('peer', o.out, device, 'output', 'u')
  const r = native.peer(output, u, xh, d, p, i, w, activationCode('peer', o.activation ?? 'gelu'))
  return { output: wrap(device, r.output, o.out?.output), u: wrap(device, r.u, o.out?.u) }
}

/** Gradients of {@link peer}: dx `[T, C]`, dWeights `[T, L]`, and the two tables' touched rows. @param saved the inputs of `peer` and the `u` it gave
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function peerBackward(
  dOut: Tensor,
  saved: { x: Tensor; down: Tensor; up: Tensor; indices: Tensor; weights: Tensor; u: Tensor },
  given?: PeerOptions & Outputs<'dx' | 'dWeights'>,
): { dx: Tensor; dWeights: Tensor; dDown: SparseGrad; dUp: SparseGrad } {
  const where = 'peerBackward'
  const o = options(where, given, ['activation', 'out'])
  const { x, down, up, indices, weights, u } = options(where, saved, [
    'x',
    'down',
    'up',
    'indices',
    'weights',
    'u',
  ]) as typeof saved
  const { list, device } = prepare(where, { dOut, x, down, up, indices, weights, u })
  const [g, xh, d, p, i, w, uh] = list as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ]
  const [outX, outWeights] = outputs(where, o.out, device, 'dx', 'dWeights')
  const r = native.peerBackward(
    outX,
    outWeights,
    g,
    xh,
    d,
    p,
    i,
    w,
    uh,
    activationCode(where, o.activation ?? 'gelu'),
  )
  return {
    dx: wrap(device, r.dx, o.out?.dx),
    dWeights: wrap(device, r.dWeights, o.out?.dWeights),
    dDown: new SparseGrad(device, r.dDown),
    dUp: new SparseGrad(device, r.dUp),
  }
}

import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { type Activation, activationCode } from './activation.js'
import { checkTensors, type Outputs, outputHandles, resultTensors } from './call.js'
import { SparseGrad } from './sparse-grad.js'

/** Options of {@link peer} and {@link peerBackward}. */
export interface PeerOptions {
  /** Default 'gelu'. */
  activation?: Activation
}

/**
 * Experts of one hidden unit (PEER, He 2024):
 * `output[t] = sum_l weights[t, l] * f(u[t, l]) * up[indices[t, l]]`, with
 * `u[t, l] = <x[t], down[indices[t, l]]>`. An index of -1 is a padding entry.
 * @param x `[T, C]` float32
 * @param down `[N, C]` float32
 * @param up `[N, Co]` float32
 * @param indices `[T, L]` int32
 * @param weights `[T, L]` float32
 * @returns output `[T, Co]`, and u `[T, L]` for the backward, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the next wait
 */
export function peer(
  x: Tensor,
  down: Tensor,
  up: Tensor,
  indices: Tensor,
  weights: Tensor,
  options?: PeerOptions & Outputs<'output' | 'u'>,
): { output: Tensor<'float32'>; u: Tensor<'float32'> } {
  const where = 'peer'
  const { activation, out } = checkOptions(where, options, ['activation', 'out'])
  const { handles, device } = checkTensors(where, { x, down, up, indices, weights })
  const outputs = outputHandles(where, out, device, ['output', 'u'])
  const results = native.peer(
    outputs.output,
    outputs.u,
    handles.x,
    handles.down,
    handles.up,
    handles.indices,
    handles.weights,
    activationCode(where, activation ?? 'gelu'),
  )
  return resultTensors(device, results, out)
}

/**
 * Gradients of {@link peer}, with the same activation.
 * @param dOut `[T, Co]` float32
 * @param saved the inputs of peer and its u
 * @returns dx `[T, C]` and dWeights `[T, L]`, float32, and the touched rows of the two tables
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the next wait
 */
export function peerBackward(
  dOut: Tensor,
  saved: { x: Tensor; down: Tensor; up: Tensor; indices: Tensor; weights: Tensor; u: Tensor },
  options?: PeerOptions & Outputs<'dx' | 'dWeights'>,
): { dx: Tensor<'float32'>; dWeights: Tensor<'float32'>; dDown: SparseGrad; dUp: SparseGrad } {
  const where = 'peerBackward'
  const { activation, out } = checkOptions(where, options, ['activation', 'out'])
  const names = ['x', 'down', 'up', 'indices', 'weights', 'u']
  const { x, down, up, indices, weights, u } = checkOptions(where, saved, names, 'saved')
  const { handles, device } = checkTensors(where, { dOut, x, down, up, indices, weights, u })
  const outputs = outputHandles(where, out, device, ['dx', 'dWeights'])
  const { dDown, dUp, ...dense } = native.peerBackward(
    outputs.dx,
    outputs.dWeights,
    handles.dOut,
    handles.x,
    handles.down,
    handles.up,
    handles.indices,
    handles.weights,
    handles.u,
    activationCode(where, activation ?? 'gelu'),
  )
  return {
    ...resultTensors(device, dense, out),
    dDown: new SparseGrad(device, dDown),
    dUp: new SparseGrad(device, dUp),
  }
}

import { recorded, tableOf } from '../autograd/record.js'
import { native, type TableHandle } from '../binding.js'
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
 * @param down `[N, C]` float32, float16 or bfloat16
 * @param up `[N, Co]` of down's dtype
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
  const code = activationCode(where, activation ?? 'gelu')
  const forward = () => {
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
      code,
    )
    return resultTensors(device, results, out)
  }
  return recorded(where, { x, down, up, weights }, out, forward, ({ u }) => ({
    saved: { x, down, up, indices, weights, u },
    outputs: ['output'],
    backward: ({ output: dOut }, needs) => {
      const saved = { x, down, up, indices, weights, u }
      const tables = {
        down: needs.down ? tableOf(down) : undefined,
        up: needs.up ? tableOf(up) : undefined,
      }
      const { dx, dWeights, dDown, dUp } = gradients(dOut as Tensor, saved, code, tables)
      return { x: dx, weights: dWeights, ...toDense({ down: dDown, up: dUp }, needs) }
    },
  }))
}

interface PeerSaved {
  x: Tensor
  down: Tensor
  up: Tensor
  indices: Tensor
  weights: Tensor
  u: Tensor
}

/** Of the tables those that are given queue their gradients; the others' are returned. */
function gradients(
  dOut: Tensor,
  saved: PeerSaved,
  activation: number,
  tables: { down?: TableHandle | undefined; up?: TableHandle | undefined },
  out?: Outputs<'dx' | 'dWeights'>['out'],
): { dx: Tensor<'float32'>; dWeights: Tensor<'float32'>; dDown?: SparseGrad; dUp?: SparseGrad } {
  const where = 'peerBackward'
  const { x, down, up, indices, weights, u } = saved
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
    activation,
    tables.down,
    tables.up,
  )
  return {
    ...resultTensors(device, dense, out),
    ...(dDown && { dDown: new SparseGrad(device, dDown) }),
    ...(dUp && { dUp: new SparseGrad(device, dUp) }),
  }
}

/** Touched rows as dense gradients, of those tables that need one. */
function toDense(
  sparse: Record<'down' | 'up', SparseGrad | undefined>,
  needs: Readonly<Record<'down' | 'up', boolean>>,
): { down?: Tensor; up?: Tensor } {
  const dense: { down?: Tensor; up?: Tensor } = {}
  for (const name of ['down', 'up'] as const) {
    if (needs[name] && sparse[name]) dense[name] = sparse[name].toDense()
    sparse[name]?.dispose()
  }
  return dense
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
  const checked = checkOptions(where, saved, names, 'saved')
  const code = activationCode(where, activation ?? 'gelu')
  const { dx, dWeights, dDown, dUp } = gradients(dOut, checked, code, {}, out)
  return { dx, dWeights, dDown: dDown as SparseGrad, dUp: dUp as SparseGrad }
}

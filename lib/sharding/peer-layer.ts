// A PEER layer (He 2024) on tables whose columns are divided among ranks. What an expert's hidden
// unit sees is a sum over the columns of `down`: each rank adds up its own columns for the tokens
// of all, and the rank whose token it is sums the parts and applies the activation.

import { type ContextHandle, native, type PeerHandle, type TensorHandle } from '../binding.js'
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import { type ColumnShard, TokenRows } from './columns.js'
import { type Calls, callsOf, composed, rowsOf } from './composed.js'

/** The tables of a PEER layer, both divided among one group. */
export interface ShardedExperts {
  down: ValueTable
  up: ValueTable
  columnsOfDown: ColumnShard
  columnsOfUp: ColumnShard
  outputDim: number
  activation: 'gelu' | 'relu'
}

/** `<rows, table[index]>` of each entry, over the columns that are here. */
function products(rows: Tensor, table: Tensor, indices: Tensor<'int32'>, like: Tensor): Tensor {
  return ops.embeddingBagBackward(rows, table, indices, like, { needs: { table: false } }).dWeights
}

export function shardedPeerLayer(
  layer: PeerHandle,
  device: Device,
  experts: ShardedExperts,
): Calls {
  const { down, up, columnsOfDown, columnsOfUp, outputDim } = experts
  const activate = experts.activation === 'gelu' ? ops.gelu : ops.relu
  const activateBackward = experts.activation === 'gelu' ? ops.geluBackward : ops.reluBackward
  const tokensOf = new WeakMap<ContextHandle, TokenRows>()
  const tensor = (handle: TensorHandle) => new Tensor<'float32'>(device, handle)
  const handles = (tensors: Tensor[]) => tensors.map((t) => t.handle('layer', 'kept'))

  const run = (input: TensorHandle, save: boolean) => {
    const tokens = TokenRows.ofLayer('PeerLayer', columnsOfDown, rowsOf(input))
    const { context, ...lookup } = native.peerLayerLookUp(layer, input, save)
    const output = composed(() => {
      const own = new Tensor<'int32'>(device, lookup.indices)
      const weights = tensor(lookup.weights)
      const x = tensor(native.tensorView(input, 0, [own.shape[0]!, columnsOfDown.width]))
      const indices = tokens.gather(own)
      const columns = tokens.toColumns(columnsOfDown, x)
      const partial = products(columns, down.weight, indices, device.empty(indices.shape))
      const u = tokens.sum(partial)
      const coefficients = tokens.gather(ops.mul(weights, activate(u)))
      const sums = ops.embeddingBag(up.weight, indices, coefficients)
      const y = tokens.toOwners(columnsOfUp, sums)
      tokensOf.set(context, tokens)
      if (save) {
        // A group of one reads x where it is: what the queue holds must outlive the caller's.
        const read = columns === x ? x.to(x.dtype) : columns
        native.peerLayerKeep(layer, context, handles([indices, weights, read, u, coefficients]))
      }
      const shape = [...input.shape.slice(0, -1), outputDim]
      return y.reshape(shape)
    })
    return { output, context }
  }

  return callsOf(run, (context, dy) => {
    const { rows, kept } = native.peerLayerBackwardRows(layer, context, dy)
    const tokens = tokensOf.get(context)!
    const indices = new Tensor<'int32'>(device, kept[0]!)
    const [weights, x, u, coefficients] = kept.slice(1).map(tensor) as [
      Tensor,
      Tensor,
      Tensor,
      Tensor,
    ]
    const dout = tensor(rows)
    const columns = tokens.toColumns(columnsOfUp, dout)
    const partial = products(columns, up.weight, indices, coefficients)
    const c = tokens.sum(partial)
    const dWeights = ops.mul(activate(u), c)
    const du = tokens.gather(activateBackward(ops.mul(weights, c), u))
    const sums = ops.embeddingBag(down.weight, indices, du)
    const dx = tokens.toOwners(columnsOfDown, sums)
    const [dw, sum] = handles([dWeights, dx]) as [TensorHandle, TensorHandle]
    const result = native.peerLayerBackwardLookup(layer, context, dw, sum)
    down.queue(indices, du, x)
    up.queue(indices, coefficients, columns === dout ? dout.to(dout.dtype) : columns)
    return tensor(result)
  })
}

// A memory layer on a table whose columns are divided among ranks (Berges et al. 2024): each rank
// looks up its own tokens, reads its own columns for the tokens of all, and gates and projects what
// its own tokens have read.

import { type ContextHandle, type LayerHandle, native, type TensorHandle } from '../binding.js'
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import { type ColumnShard, TokenRows } from './columns.js'
import { type Calls, callsOf, composed, rowsOf } from './composed.js'

export function shardedMemoryLayer(
  layer: LayerHandle,
  device: Device,
  table: ValueTable,
  shard: ColumnShard,
): Calls {
  const tokensOf = new WeakMap<ContextHandle, TokenRows>()
  const tensor = (handle: TensorHandle) => new Tensor<'float32'>(device, handle)

  const run = (x: TensorHandle, save: boolean) => {
    const tokens = TokenRows.ofLayer('MemoryLayer', shard, rowsOf(x))
    const { context, ...lookup } = native.memoryLayerLookUp(layer, x, save)
    const output = composed(() => {
      const indices = new Tensor<'int32'>(device, lookup.indices)
      const arriving = [tokens.startGather(indices), tokens.startGather(tensor(lookup.weights))]
      native.memoryLayerGate(layer, context)
      const [all, weights] = arriving.map((a) => a.wait()) as [Tensor<'int32'>, Tensor]
      const scales = table.scales && { scales: table.scales }
      const columns = ops.embeddingBag(table.weight, all, weights, scales)
      const y = tokens.toOwners(shard, columns)
      tokensOf.set(context, tokens)
      const kept = [all, weights].map((t) => t.handle('layer', 'kept'))
      const rows = y.handle('layer', 'y')
      return tensor(native.memoryLayerFinish(layer, context, rows, save ? kept : [], save))
    })
    return { output, context }
  }

  return callsOf(run, (context, dy) => {
    const { rows, kept } = native.memoryLayerBackwardRows(layer, context, dy)
    const tokens = tokensOf.get(context)!
    const indices = new Tensor<'int32'>(device, kept[0]!)
    const weights = tensor(kept[1]!)
    const arriving = tokens.startColumns(shard, tensor(rows))
    native.memoryLayerBackwardGate(layer, context)
    const columns = arriving.wait()
    const { dWeights } = ops.embeddingBagBackward(columns, table.weight, indices, weights, {
      needs: { table: false },
      ...(table.scales && { scales: table.scales }),
    })
    const own = tokens.sum(dWeights)
    const dx = native.memoryLayerBackwardLookup(layer, context, own.handle('layer', 'dWeights'))
    table.queue(indices, weights, columns)
    return tensor(dx)
  })
}

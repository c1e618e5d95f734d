// Which tensors hold only some columns of what their name says: the rows of a divided table, and an
// optimizer's states of them.

import type { Tensor } from '../tensor.js'
import type { ColumnShard } from './columns.js'

const shards = new WeakMap<Tensor, ColumnShard>()

/** Notes that `tensor` holds a rank's columns. */
export function noteShard(tensor: Tensor, shard: ColumnShard | undefined): void {
  if (shard) shards.set(tensor, shard)
}

/** How the whole of which a tensor holds some columns is divided; undefined: it is the whole. */
export function shardOf(tensor: Tensor): ColumnShard | undefined {
  return shards.get(tensor)
}

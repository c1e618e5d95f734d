// Data parallelism: the gradients of all ranks become those of all tokens, on every rank.

import { unrecorded } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import { native } from '../binding.js'
import { fail } from '../errors.js'
import * as ops from '../ops.js'
import type { Parameter } from '../parameter.js'
import { distinctParameters } from '../parameter-groups.js'
import type { PendingReduce } from '../pending.js'
import { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import type { World } from '../world.js'
import { TokenRows } from './columns.js'

const where = 'fit'
/** Numbers of a bucket: large enough that a message's own cost is small. */
const bucketSize = 2 ** 20

/** Of groups that divide tables, the ranks that hold the same columns as this one. */
export type Replicas = ReadonlyMap<World, World>

/**
 * Finds them: every rank calls it. The world is a grid of such groups, all of one size.
 * @throws ERR_UNSUPPORTED, ERR_DISTRIBUTED
 */
export async function findReplicas(world: World, params: readonly Parameter[]): Promise<Replicas> {
  const replicas = new Map<World, World>()
  for (const { name, table } of distinctParameters(where, params).tables) {
    const group = table.shard?.group
    if (!group || group === world || replicas.has(group)) continue
    const same = await world.split({ color: group.rank })
    if (same.size * group.size !== world.size) {
      const requirement = `be divided among groups of one size, ${world.size} ranks in all`
      fail('ERR_UNSUPPORTED', where, name, requirement, `a group of ${group.size}`)
    }
    replicas.set(group, same)
  }
  return replicas
}

/**
 * Sums gradients over the ranks, in the order of the ranks. Dense ones travel in buckets. The reads
 * of a table are queued at every rank that holds the same of it; those of tokens of the ranks that
 * divide it are there already.
 */
export function sumGradients(world: World, params: readonly Parameter[], replicas: Replicas): void {
  if (world.size === 1) return
  unrecorded(() =>
    tidy(() => {
      const { dense, tables } = distinctParameters(where, params)
      const grads = dense.map(({ grad }) => grad as Tensor)
      for (const { name, table } of tables) {
        const group = table.shard?.group
        const holders = group === world ? undefined : group ? replicas.get(group) : world
        if (holders) grads.push(...gatherReads(holders, name, table))
      }
      // Each bucket travels while the ones before it are added.
      const sums = buckets(grads).map((bucket) => startSum(world, bucket))
      for (const { pending } of sums) pending.advance()
      for (const sum of sums) finishSum(sum)
    }),
  )
}

/** Queues the reads of all ranks; returns the dense part of the gradient, if it counts. */
function gatherReads(holders: World, name: string, table: ValueTable): Tensor[] {
  const { device } = table
  const { reads, dense } = native.tableTake(table.handle)
  for (const read of reads) {
    if (read.offsets) {
      const hint = 'Read it in bags of one size.'
      fail('ERR_UNSUPPORTED', where, name, 'have no ragged reads in a world', 'ragged bags', hint)
    }
    const indices = new Tensor<'int32'>(device, read.indices)
    const tokens = TokenRows.agree(holders, indices.shape[0]!)
    const gather = (tensor: Tensor) => tokens.gather(tensor)
    const weights = gather(new Tensor(device, read.weights))
    table.queue(gather(indices), weights, gather(new Tensor(device, read.dy)))
  }
  return dense ? [new Tensor(device, dense)] : []
}

function buckets(grads: readonly Tensor[]): Tensor[][] {
  const list: Tensor[][] = []
  let size = bucketSize
  for (const grad of grads) {
    if (size + grad.size > bucketSize) {
      list.push([])
      size = 0
    }
    list.at(-1)!.push(grad)
    size += grad.size
  }
  return list
}

/** Of a bucket on its way. */
interface Sum {
  grads: readonly Tensor[]
  flat: Tensor
  pending: PendingReduce
}

function startSum(world: World, grads: readonly Tensor[]): Sum {
  const flat = ops.concat(
    grads.map((grad) => grad.reshape([grad.size])),
    0,
  )
  return { grads, flat, pending: world.startAllReduce(flat) }
}

/** The sums take the gradients' own memory. */
function finishSum({ grads, flat, pending }: Sum): void {
  pending.wait()
  let begin = 0
  for (const grad of grads) {
    grad.copyFrom(flat.rows(begin, begin + grad.size).reshape(grad.shape))
    begin += grad.size
  }
}

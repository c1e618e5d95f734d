// Data parallelism: the gradients of all ranks become those of all tokens, on every rank.

import { unrecorded } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import { native, type TensorHandle } from '../binding.js'
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
export async function sumGradients(
  world: World,
  params: readonly Parameter[],
  replicas: Replicas,
): Promise<void> {
  if (world.size === 1) return
  const { dense, tables } = distinctParameters(where, params)
  const queues: Queue[] = []
  for (const { name, table } of tables) {
    const group = table.shard?.group
    const holders = group === world ? undefined : group ? replicas.get(group) : world
    if (holders) queues.push(takeReads(name, table, holders))
  }
  const bags = await Promise.all(queues.map(bagsOf))
  unrecorded(() =>
    tidy(() => {
      const grads = dense.map(({ grad }) => grad as Tensor)
      for (const [i, queue] of queues.entries()) grads.push(...gatherReads(queue, bags[i]!))
      // Each bucket travels while the ones before it are added.
      const sums = buckets(grads).map((bucket) => startSum(world, bucket))
      for (const { pending } of sums) pending.advance()
      for (const sum of sums) finishSum(sum)
    }),
  )
}

/** The reads of a table that this rank has queued, and the ranks that hold the same of it. */
interface Queue {
  table: ValueTable
  holders: World
  reads: ReturnType<typeof native.tableTake>['reads']
  dense: TensorHandle | undefined
}

function takeReads(name: string, table: ValueTable, holders: World): Queue {
  const { reads, dense } = native.tableTake(table.handle)
  if (reads.some(({ offsets }) => offsets)) {
    const hint = 'Read it in bags of one size.'
    fail('ERR_UNSUPPORTED', where, name, 'have no ragged reads in a world', 'ragged bags', hint)
  }
  return { table, holders, reads, dense }
}

/** The bags of each read, of each rank. */
async function bagsOf({ holders, reads }: Queue): Promise<TokenRows[]> {
  const all = await holders.exchange(reads.map(({ indices }) => indices.shape[0]!))
  return reads.map(
    (_, i) =>
      new TokenRows(
        holders,
        all.map((counts) => counts[i]!),
      ),
  )
}

/** Queues the reads of all ranks; returns the dense part of the gradient, if it counts. */
function gatherReads({ table, reads, dense }: Queue, bags: readonly TokenRows[]): Tensor[] {
  const { device } = table
  for (const [i, read] of reads.entries()) {
    const gather = (tensor: Tensor) => bags[i]!.gather(tensor)
    const indices = gather(new Tensor<'int32'>(device, read.indices))
    const weights = gather(new Tensor(device, read.weights))
    table.queue(indices, weights, gather(new Tensor(device, read.dy)))
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

// The norm of gradients of which other ranks have parts.

import { unrecorded } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import { native } from '../binding.js'
import type { Device } from '../device.js'
import * as ops from '../ops.js'
import type { DenseParameter } from '../parameter.js'
import { Tensor } from '../tensor.js'
import type { ValueTable } from '../value-table.js'
import type { World } from '../world.js'

interface Part {
  dense: readonly DenseParameter[]
  tables: readonly { table: ValueTable }[]
}

const where = 'clipGradNorm'

/** Scales each part by its norm over all ranks. @returns the norms, one a part */
export function clipOverRanks(
  device: Device,
  parts: readonly Part[],
  maxNorm: number,
): Tensor<'float32'> {
  return unrecorded(() =>
    tidy(() => {
      const norms = parts.map((part) => clipPart(device, part, maxNorm))
      return norms.length === 1 ? norms[0]! : ops.concat(norms, 0)
    }),
  ) as Tensor<'float32'>
}

function clipPart(device: Device, { dense, tables }: Part, maxNorm: number): Tensor {
  const grads = dense.map((p) => p.grad.handle(where, `${p.name}.grad`))
  const groups = new Map<World | undefined, ValueTable[]>([[undefined, []]])
  for (const { table } of tables) {
    const group = table.shard?.group
    groups.set(group, [...(groups.get(group) ?? []), table])
  }
  const sums = [...groups].map(([group, list]) => {
    const own = native.gradientSquares(device.handle, group ? [] : grads, handlesOf(list))
    const sum = new Tensor<'int32'>(device, own)
    return group ? gatherSums(group, sum) : sum
  })
  const all = ops.concat(sums, 0).handle(where, 'sums')
  const list = tables.map(({ table }) => table)
  const norm = native.clipBySquares(device.handle, grads, handlesOf(list), all, maxNorm)
  return new Tensor(device, norm)
}

/** `[2 size]` int32: the sum of each rank, in order. */
function gatherSums(group: World, sum: Tensor<'int32'>): Tensor<'int32'> {
  return (group.size === 1 ? sum : group.allGather(sum)) as Tensor<'int32'>
}

function handlesOf(tables: readonly ValueTable[]) {
  return tables.map(({ handle }) => handle)
}

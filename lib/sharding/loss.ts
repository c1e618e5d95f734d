// The loss of all ranks: the mean over the targets that count, wherever they are.

import { unrecorded } from '../autograd/recording.js'
import { tidy } from '../autograd/tidy.js'
import type { Device } from '../device.js'
import { fail } from '../errors.js'
import { defaultIgnoreIndex } from '../ops/target-weights.js'
import * as ops from '../ops.js'
import { Tensor } from '../tensor.js'
import type { World } from '../world.js'

/** The mean over all ranks, and what this rank's loss counts in it: its share of the targets. */
export interface WorldLoss {
  /** `[1]`, the same on every rank. */
  mean: Tensor
  /** `[1]` */
  share: Tensor
}

/** @param loss of this rank: the mean over those of its targets that count, one number */
export function worldLoss(world: World, loss: Tensor, targets: unknown): WorldLoss {
  return unrecorded(() =>
    tidy(() => {
      const count = countTargets(loss.device, targets)
      const own = ops.concat([loss.reshape([1]), count], 0).reshape([1, 2])
      const all = world.size === 1 ? own : world.allGather(own)
      const column = (i: number) => ops.slice(all, { begin: [0, i], end: [undefined, i + 1] })
      const total = ops.sum(column(1)).reshape([1])
      const mean = ops.div(ops.sum(ops.mul(column(0), column(1))).reshape([1]), total)
      return { mean, share: ops.div(count, total) }
    }),
  )
}

/** `[1]`: of integers, -1 and -100 don't count. */
function countTargets(device: Device, targets: unknown): Tensor {
  if (Tensor.is(targets)) {
    if (targets.dtype !== 'int32') return device.tensor([targets.size])
    const { weights } = ops.targetWeights(targets.reshape([targets.size]))
    return ops.div(1, ops.max(weights)).reshape([1])
  }
  if (!Array.isArray(targets) && !ArrayBuffer.isView(targets)) {
    const hint = 'How many there are says how much the loss of each rank counts.'
    fail('ERR_UNSUPPORTED', 'fit', 'targets', 'be a tensor or numbers in a world', targets, hint)
  }
  const numbers = Array.from(targets as unknown as ArrayLike<number>)
  return device.tensor([numbers.filter((t) => t !== -1 && t !== defaultIgnoreIndex).length])
}

import { native } from '../binding.js'
import { checkInteger, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type Outputs, outputHandles, resultTensor } from './call.js'

/** Entries of bags by what they choose: see {@link groupByIndex}. */
export type Groups = {
  /** `[T * L]`: the entries by group, as positions in the indices. */
  order: Tensor<'int32'>
  /** `[T * L]`: the bags that these entries belong to. */
  bags: Tensor<'int32'>
  /** `[T, L]`: where each entry is in `order`. */
  positions: Tensor<'int32'>
  /** `[groups + 1]`: group g is `offsets[g]` … `offsets[g + 1] - 1` of `order`. */
  offsets: Tensor<'int32'>
}

const names = ['order', 'bags', 'positions', 'offsets'] as const

/**
 * The entries of bags by what they choose: those that choose 0, then 1, and so on, each group in
 * the order of its entries. With `bags` the rows of each group are gathered for
 * {@link groupedLinear}, and `positions` are the bags that return them. An index of -1 is padding:
 * its entry is in no group and has position -1, and past the last group `order` and `bags` are -1.
 * @param indices `[T, L]` int32, in `[0, groups)` or -1
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the next wait
 */
export function groupByIndex(
  indices: Tensor,
  groups: number,
  options?: Outputs<keyof Groups>,
): Groups {
  const where = 'groupByIndex'
  const { out } = checkOptions(where, options, ['out'])
  const { handles, device } = checkTensors(where, { indices })
  checkInteger(where, 'groups', groups, 0, 2 ** 31 - 1)
  const given = outputHandles(where, out, device, names)
  const results = native.groupByIndex(
    given.order,
    given.bags,
    given.positions,
    given.offsets,
    handles.indices,
    groups,
  )
  const tensor = (name: keyof Groups) =>
    resultTensor(device, results[name], out?.[name]) as Tensor as Tensor<'int32'>
  return {
    order: tensor('order'),
    bags: tensor('bags'),
    positions: tensor('positions'),
    offsets: tensor('offsets'),
  }
}

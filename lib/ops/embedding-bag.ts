import { native, type TensorHandle } from '../binding.js'
import { isTypedArray, type TypedArray } from '../dtype.js'
import { fail, MemoryLayersError } from '../errors.js'
import { boolean, choice, options } from '../options.js'
import { handles, optionalHandle, Tensor, text } from '../tensor.js'
import { type OutOptions, type Outputs, outputs, prepare, wrap } from './call.js'
import { SparseGrad } from './sparse-grad.js'

/** Options of the operation of that name. */
export interface BagOptions extends OutOptions {
  /**
   * `[B + 1]` int32, for ragged bags: bag b has places `offsets[b]` … `offsets[b + 1] - 1`; indices
   * and weights are then `[nnz]`.
   */
  offsets?: Tensor
  /** `[N]` float32: a factor for each row (int8 tables). */
  scales?: Tensor
}

/**
 * Indices as a tensor, or as numbers in the shape of the weights; numbers are checked here, at the
 * call.
 */
export type Indices = Tensor | TypedArray | readonly number[]

/** Uploads indices given as numbers. `temporary` is disposed by the caller. */
function takeIndices(
  where: string,
  indices: Indices,
  weights: Tensor,
  slots: number,
): { tensor: Tensor; temporary?: Tensor } {
  if (indices instanceof Tensor) return { tensor: indices }
  if (!isTypedArray(indices) && !Array.isArray(indices)) {
    fail(
      'ERR_DTYPE',
      where,
      'indices',
      'be an int32 Tensor, a typed array or an array of integers',
      indices,
    )
  }
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!
    if (!Number.isInteger(index) || index < -1 || index >= slots) {
      throw new MemoryLayersError(
        'ERR_INDEX_RANGE',
        `${where}: "indices"[${i}] is ${index}, outside [0, ${slots}).\n  -1 marks a padding entry.`,
      )
    }
  }
  if (indices.length !== weights.size) {
    fail(
      'ERR_SHAPE',
      where,
      'indices',
      `have ${weights.size} elements as "weights" ${text(weights.shape)} has`,
      String(indices.length),
    )
  }
  const temporary = weights.device.tensor(indices, weights.shape, 'int32')
  return { tensor: temporary, temporary }
}

function tableSlots(where: string, table: Tensor): number {
  handles(where, { table })
  if (table.shape.length !== 2)
    fail('ERR_SHAPE', where, 'table', 'have shape [slots, dim]', text(table.shape))
  return table.shape[0]!
}

/** The sparse weighted embedding bag: `y[b, :] = sum over l of weights[b, l] * table[indices[b, l], :]`. Index -1 is an empty place.
 * @param table `[N, V]` float32, float16, bfloat16 or int8 (with `scales`)
 * @param indices `[T, L]` int32, or `[nnz]` with `offsets`
 * @param weights float32 in the shape of the indices
 * @returns `[T, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the call for numbers, at the next wait for
 * tensors */
export function embeddingBag(
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given?: BagOptions,
): Tensor {
  const where = 'embeddingBag'
  const o = options(where, given, ['offsets', 'scales', 'out'])
  handles(where, { weights })
  const { tensor, temporary } = takeIndices(where, indices, weights, tableSlots(where, table))
  try {
    const { list, device, out } = prepare(where, { table, indices: tensor, weights }, o)
    const offsets = optionalHandle(where, 'offsets', o.offsets, device)
    const scales = optionalHandle(where, 'scales', o.scales, device)
    return wrap(
      device,
      native.embeddingBag(out, list[0]!, list[1]!, list[2]!, offsets, scales),
      o.out,
    )
  } finally {
    temporary?.dispose()
  }
}

/** Options of the operation of that name. */
export interface BagBackwardOptions extends Outputs<'dWeights'> {
  /** As in {@link BagOptions}. */
  offsets?: Tensor
  /** As in {@link BagOptions}; the table's gradient can't be had with it. */
  scales?: Tensor
  /** Which gradients to make; default both. */
  needs?: { table?: boolean; weights?: boolean }
  /**
   * 'sorted' (the default, and the only one so far): a stable sort and ordered sums, bitwise
   * repeatable.
   */
  algorithm?: 'sorted'
}

/** Gradients of {@link embeddingBag}: `dWeights[b, l] = <dy[b, :], table[indices[b, l], :]>`, and the table's as touched rows.
 * @param dy `[T, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE as {@link embeddingBag} */
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given?: BagBackwardOptions & { needs?: { table?: true; weights?: true } },
): { dWeights: Tensor; dTable: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given: BagBackwardOptions,
): { dWeights?: Tensor; dTable?: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given?: BagBackwardOptions,
): { dWeights?: Tensor; dTable?: SparseGrad } {
  const where = 'embeddingBagBackward'
  const o = options(where, given, ['offsets', 'scales', 'needs', 'algorithm', 'out'])
  const needs = options(where, o.needs, ['table', 'weights'])
  choice(where, 'algorithm', o.algorithm ?? 'sorted', ['sorted'])
  handles(where, { weights })
  const { tensor, temporary } = takeIndices(where, indices, weights, tableSlots(where, table))
  try {
    const { list, device } = prepare(where, { dy, table, indices: tensor, weights })
    const offsets = optionalHandle(where, 'offsets', o.offsets, device)
    const scales = optionalHandle(where, 'scales', o.scales, device)
    const wantsWeights = boolean(where, 'needs.weights', needs.weights ?? true)
    const wantsTable = boolean(where, 'needs.table', needs.table ?? true)
    const [g, t, i, w] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle]
    const [dWeights] = outputs(where, o.out, device, 'dWeights')
    const r = native.embeddingBagBackward(
      dWeights,
      g,
      t,
      i,
      w,
      offsets,
      scales,
      wantsWeights,
      wantsTable,
    )
    return {
      ...(r.dWeights && { dWeights: wrap(device, r.dWeights, o.out?.dWeights) }),
      ...(r.dTable && { dTable: new SparseGrad(device, r.dTable) }),
    }
  } finally {
    temporary?.dispose()
  }
}

import { recorded, tableOf } from '../autograd/record.js'
import { native, type TableHandle } from '../binding.js'
import { checkBoolean, checkOptions, choiceIndex } from '../options.js'
import { optionalTensorHandle, type Tensor, tensorHandle } from '../tensor.js'
import {
  checkTensors,
  type OutOptions,
  type Outputs,
  outputHandles,
  resultTensor,
  resultTensors,
} from './call.js'
import { type Indices, tableSlots, toIndexTensor } from './indices.js'
import { SparseGrad } from './sparse-grad.js'

/** Options of {@link embeddingBag}. */
export interface BagOptions extends OutOptions {
  /**
   * `[B + 1]` int32, for ragged bags: the entries of bag b are `offsets[b]` … `offsets[b + 1] - 1`;
   * indices and weights are then `[nnz]`.
   */
  offsets?: Tensor
  /** `[N]` float32: a factor for each row (int8 tables). */
  scales?: Tensor
}

/**
 * The sparse weighted embedding bag:
 * `y[b, :] = sum over l of weights[b, l] * table[indices[b, l], :]`. An index of -1 is a padding
 * entry and adds nothing.
 * @param table `[N, V]` float32, float16, bfloat16 or int8 (with `scales`)
 * @param indices `[T, L]` int32, or `[nnz]` with `offsets`
 * @param weights float32 in the shape of the indices
 * @returns `[T, V]`, or `[B, V]` with `offsets`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE at the call for numbers, at the next
 * wait for tensors
 */
export function embeddingBag(
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options?: BagOptions,
): Tensor<'float32'> {
  const where = 'embeddingBag'
  const checked = checkOptions(where, options, ['offsets', 'scales', 'out'])
  tensorHandle(where, 'weights', weights)
  const { tensor, temporary } = toIndexTensor(
    where,
    indices,
    tableSlots(where, table),
    weights.device,
    'indices',
    { name: 'weights', tensor: weights },
  )
  const { offsets, scales } = checked
  const forward = () => {
    const tensors = { table, indices: tensor, weights }
    const { handles, device, out } = checkTensors(where, tensors, checked.out)
    const y = native.embeddingBag(
      out,
      handles.table,
      handles.indices,
      handles.weights,
      optionalTensorHandle(where, 'offsets', offsets, device),
      optionalTensorHandle(where, 'scales', scales, device),
    )
    return resultTensor(device, y, checked.out)
  }
  try {
    return recorded(where, { table, weights }, checked.out, forward, () => ({
      saved: { table, indices: tensor, weights, offsets, scales },
      backward: (dy, needs) => bagGradients(dy, table, tensor, weights, { offsets, scales, needs }),
    }))
  } finally {
    temporary?.dispose()
  }
}

/** The gradients of a recorded bag: the table's queued at it if it is trained, else dense. */
function bagGradients(
  dy: Tensor,
  table: Tensor,
  indices: Tensor,
  weights: Tensor,
  {
    needs,
    ...bags
  }: { needs: { table: boolean; weights: boolean }; offsets?: Tensor; scales?: Tensor },
): { table?: Tensor; weights?: Tensor } {
  const queue = needs.table ? tableOf(table) : undefined
  if (queue) pushRead(queue, indices, weights, dy, bags.offsets)
  const { dTable, dWeights } = embeddingBagBackward(dy, table, indices, weights, {
    ...bags,
    needs: { table: needs.table && !queue, weights: needs.weights },
  })
  const dense = dTable?.toDense()
  dTable?.dispose()
  return { ...(dense && { table: dense }), ...(dWeights && { weights: dWeights }) }
}

function pushRead(
  queue: TableHandle,
  indices: Tensor,
  weights: Tensor,
  dy: Tensor,
  offsets: Tensor | undefined,
): void {
  const where = 'embeddingBag'
  native.tablePush(
    queue,
    indices.handle(where, 'indices'),
    weights.handle(where, 'weights'),
    dy.handle(where, 'dy'),
    offsets?.handle(where, 'offsets'),
  )
}

/** Options of {@link embeddingBagBackward}. */
export interface BagBackwardOptions extends Outputs<'dWeights'> {
  /** As in {@link BagOptions}. */
  offsets?: Tensor
  /** As in {@link BagOptions}; the table's gradient can't be had with it. */
  scales?: Tensor
  /** Which gradients to compute; default both. */
  needs?: { table?: boolean; weights?: boolean }
  /** 'sorted' (default, the only one): a stable sort and ordered sums, bitwise repeatable. */
  algorithm?: 'sorted'
}

/**
 * Gradients of {@link embeddingBag}: `dWeights[b, l] = <dy[b, :], table[indices[b, l], :]>`, and
 * the table's as touched rows.
 * @param dy `[T, V]` float32
 * @returns dWeights float32 in the shape of the weights, dTable of shape `[N, V]`
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE; ERR_INDEX_RANGE as {@link embeddingBag}
 */
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options?: BagBackwardOptions & { needs?: { table?: true; weights?: true } },
): { dWeights: Tensor<'float32'>; dTable: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options: BagBackwardOptions & { needs: { table: false; weights?: true } },
): { dWeights: Tensor<'float32'> }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options: BagBackwardOptions & { needs: { table?: true; weights: false } },
): { dTable: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options: BagBackwardOptions,
): { dWeights?: Tensor<'float32'>; dTable?: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  options?: BagBackwardOptions,
): { dWeights?: Tensor<'float32'>; dTable?: SparseGrad } {
  const where = 'embeddingBagBackward'
  const names = ['offsets', 'scales', 'needs', 'algorithm', 'out']
  const { offsets, scales, algorithm, out, ...rest } = checkOptions(where, options, names)
  const needs = checkOptions(where, rest.needs, ['table', 'weights'], 'needs')
  choiceIndex(where, 'algorithm', algorithm ?? 'sorted', ['sorted'])
  tensorHandle(where, 'weights', weights)
  const { tensor, temporary } = toIndexTensor(
    where,
    indices,
    tableSlots(where, table),
    weights.device,
    'indices',
    { name: 'weights', tensor: weights },
  )
  try {
    const { handles, device } = checkTensors(where, { dy, table, indices: tensor, weights })
    const offsetsHandle = optionalTensorHandle(where, 'offsets', offsets, device)
    const scalesHandle = optionalTensorHandle(where, 'scales', scales, device)
    const needsWeights = checkBoolean(where, 'needs.weights', needs.weights ?? true)
    const needsTable = checkBoolean(where, 'needs.table', needs.table ?? true)
    const outputs = outputHandles(where, out, device, ['dWeights'])
    const { dTable, ...dense } = native.embeddingBagBackward(
      outputs.dWeights,
      handles.dy,
      handles.table,
      handles.indices,
      handles.weights,
      offsetsHandle,
      scalesHandle,
      needsWeights,
      needsTable,
    )
    return {
      ...resultTensors(device, dense, out),
      ...(dTable && { dTable: new SparseGrad(device, dTable) }),
    }
  } finally {
    temporary?.dispose()
  }
}

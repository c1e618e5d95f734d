import { recorded, tableOf } from '../autograd/record.js'
import { native } from '../binding.js'
import { constantTensor } from '../new-tensor.js'
import { checkOptions } from '../options.js'
import { optionalTensorHandle, type Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'
import { type Indices, tableSlots, toIndexTensor } from './indices.js'
import { SparseGrad } from './sparse-grad.js'

/** Options of {@link embedding}. */
export interface EmbeddingOptions extends OutOptions {
  /** `[N]` float32: a factor for each row (int8 tables). */
  scales?: Tensor
}

/**
 * Rows of a table by index: `y[t, :] = table[indices[t], :]`. An index of -1 is padding, whose row
 * is zeros.
 * @param table `[N, V]` float32, float16, bfloat16 or int8 (with `scales`)
 * @param indices int32, at most 5 axes, or numbers on one axis
 * @returns float32, the shape of the indices with V behind it
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the call for numbers, at the next wait for
 * tensors
 */
export function embedding(
  table: Tensor,
  indices: Indices,
  options?: EmbeddingOptions,
): Tensor<'float32'> {
  const where = 'embedding'
  const checked = checkOptions(where, options, ['scales', 'out'])
  const slots = tableSlots(where, table)
  const { tensor, temporary } = toIndexTensor(where, indices, slots, table.device)
  const forward = () => {
    const { handles, device, out } = checkTensors(where, { table, indices: tensor }, checked.out)
    const scales = optionalTensorHandle(where, 'scales', checked.scales, device)
    const y = native.embedding(out, handles.table, handles.indices, scales)
    return resultTensor(device, y, checked.out)
  }
  try {
    return recorded(where, { table }, checked.out, forward, () => ({
      saved: { table, indices: tensor },
      backward: (dy) => tableGradient(dy, table, tensor),
    }))
  } finally {
    temporary?.dispose()
  }
}

/** The gradient of a recorded call: queued at a table that is trained, else dense. */
function tableGradient(dy: Tensor, table: Tensor, indices: Tensor): { table?: Tensor } {
  const where = 'embedding'
  const queue = tableOf(table)
  if (!queue) {
    const rows = embeddingBackward(dy, table, indices)
    const dense = rows.toDense()
    rows.dispose()
    return { table: dense }
  }
  const entries = [indices.size, 1]
  const weights = constantTensor(where, dy.device, entries, 1)
  const bags = indices.reshape(entries)
  const rows = dy.reshape([indices.size, table.shape[1]!])
  native.tablePush(
    queue,
    bags.handle(where, 'indices'),
    weights.handle(where, 'weights'),
    rows.handle(where, 'dy'),
    undefined,
  )
  for (const t of [weights, bags, rows]) t.dispose()
  return {}
}

/**
 * The gradient of {@link embedding} by its table, as touched rows.
 * @param dy of the shape of the result, float32
 * @returns of shape `[N, V]`
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE as {@link embedding}
 */
export function embeddingBackward(dy: Tensor, table: Tensor, indices: Indices): SparseGrad {
  const where = 'embeddingBackward'
  const slots = tableSlots(where, table)
  const { tensor, temporary } = toIndexTensor(where, indices, slots, table.device)
  try {
    const { handles, device } = checkTensors(where, { dy, table, indices: tensor })
    const dTable = native.embeddingBackward(handles.dy, handles.table, handles.indices)
    return new SparseGrad(device, dTable)
  } finally {
    temporary?.dispose()
  }
}

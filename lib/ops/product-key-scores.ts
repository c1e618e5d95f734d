import { native } from '../binding.js'
import { checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type OutOptions, resultTensor } from './call.js'

/**
 * Half-key scores of every query:
 * `scores[t, h, p, j] = <query[t, h, p, :], keys[h, p, j, :]>`. For study and tests:
 * {@link productKeyLookup} never stores them.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]`, of the dtype of the query
 * @returns `[T, H, 2, n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE
 */
export function productKeyScores(
  query: Tensor,
  keys: Tensor,
  options?: OutOptions,
): Tensor<'float32'> {
  const where = 'productKeyScores'
  const checked = checkOptions(where, options, ['out'])
  const { handles, device, out } = checkTensors(where, { query, keys }, checked.out)
  const scores = native.productKeyScores(out, handles.query, handles.keys)
  return resultTensor(device, scores, checked.out)
}

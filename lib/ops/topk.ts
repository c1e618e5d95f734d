import { native } from '../binding.js'
import { checkInteger, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { checkTensors, type Outputs, outputHandles, resultTensors } from './call.js'

/**
 * The k largest values of the last axis, sorted: value descending, then index ascending. NaN
 * counts as larger than every number.
 * @param x `[..., n]` float32
 * @param k from 1 to n
 * @returns values `[..., k]` float32 and indices `[..., k]` int32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for k outside 1 … n
 */
export function topK(
  x: Tensor,
  k: number,
  options?: Outputs<'values' | 'indices'>,
): { values: Tensor<'float32'>; indices: Tensor<'int32'> } {
  const where = 'topK'
  const { out } = checkOptions(where, options, ['out'])
  const { handles, device } = checkTensors(where, { x })
  checkInteger(where, 'k', k)
  const outputs = outputHandles(where, out, device, ['values', 'indices'])
  const results = native.topK(outputs.values, outputs.indices, handles.x, k)
  return resultTensors(device, results, out)
}

import { recorded } from '../autograd/record.js'
import { native } from '../binding.js'
import { type Compute, computeCode } from '../compute.js'
import { isObject } from '../describe.js'
import { fail } from '../errors.js'
import { inspectable } from '../inspect.js'
import { checkInteger, checkOptions, choiceIndex } from '../options.js'
import { formatShape, optionalTensorHandle, type Tensor } from '../tensor.js'
import { checkTensors, type Outputs, outputHandles, resultTensors } from './call.js'

/** How scores become weights: softmax over the k selected slots, or each score by itself. */
export type Gate = 'softmax' | 'relu' | 'sigmoid' | 'none'

// In the order of native/ops/product_key_lookup.h.
const gates: readonly Gate[] = ['softmax', 'relu', 'sigmoid', 'none']

/**
 * The k best slots of each token and head, best first, and what the backward needs. Where fewer
 * than k slots can be selected, the rest are padding entries.
 */
export interface Lookup {
  /** `[T, H, k]` float32: sum of the two half-key scores; -Infinity for padding. */
  scores: Tensor<'float32'>
  /** `[T, H, k]` int32: slot = i1 * n + i2; -1 for padding. */
  indices: Tensor<'int32'>
  /** `[T, H, k]` float32: the gate over the scores; 0 for padding. */
  weights: Tensor<'float32'>
  /** The gate of the weights. */
  gate: Gate
  /** k. */
  knn: number
  /** In what query and keys were multiplied, and are in the gradients. Default 'float32'. */
  compute?: Compute
}

/** Options of {@link productKeyLookup}. */
export interface LookupOptions extends Outputs<'scores' | 'indices' | 'weights'> {
  /** Slots selected per token and head, k. May exceed n; the entries left over are padding. */
  knn: number
  /** Default 'softmax'. */
  gate?: Gate
  /** `[H, 2, n]` uint8: half-keys with 0 are never selected. */
  mask?: Tensor
  /** In what query and keys are multiplied, here and in the gradients. Default 'float32'. */
  compute?: Compute
}

/**
 * Product-key lookup (Lample et al. 2019, section 3.1): the exact best k of n*n slots from the top
 * k of each half. Ties order by (sum of the two half-key scores descending, rank in half 1
 * ascending, rank in half 2 ascending). With `compute` 'bfloat16' query and keys are rounded first,
 * and may differ in dtype; the lookup is exact on what is rounded.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]`, of the dtype of the query
 * @returns scores, indices and weights, each `[T, H, k]`
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION, ERR_UNSUPPORTED
 */
export function productKeyLookup(query: Tensor, keys: Tensor, options: LookupOptions): Lookup {
  const where = 'productKeyLookup'
  const names = ['knn', 'gate', 'mask', 'compute', 'out']
  const { out, ...checked } = checkOptions(where, options, names)
  const compute = checked.compute ?? 'float32'
  const gate = checked.gate ?? 'softmax'
  const knn = checkInteger(where, 'knn', checked.knn, 1, 2 ** 31 - 1)
  const forward = (): Lookup => {
    const { handles, device } = checkTensors(where, { query, keys })
    const mask = optionalTensorHandle(where, 'mask', checked.mask, device)
    const outputs = outputHandles(where, out, device, ['scores', 'indices', 'weights'])
    const results = native.productKeyLookup(
      outputs.scores,
      outputs.indices,
      outputs.weights,
      handles.query,
      handles.keys,
      mask,
      knn,
      choiceIndex(where, 'gate', gate, gates),
      computeCode(where, device, compute),
    )
    const lookup = { ...resultTensors(device, results, out), gate, knn, compute }
    return inspectable(lookup, describeLookup)
  }
  return recorded(where, { query, keys }, out, forward, (lookup) => ({
    saved: { query, keys, ...lookupTensors(lookup) },
    outputs: ['weights'],
    backward: ({ weights: dWeights }) => {
      const inputs = { query, keys }
      const { dQuery, dKeys } = productKeyLookupBackward(lookup, dWeights as Tensor, inputs)
      return { query: dQuery, keys: dKeys }
    },
  }))
}

function lookupTensors({ scores, indices, weights }: Lookup) {
  return { scores, indices, weights }
}

function describeLookup({ scores, gate }: Lookup): string {
  return `Lookup ${formatShape(scores.shape)}, gate ${gate}, on ${scores.device.name}`
}

/**
 * Gradients of {@link productKeyLookup}; which slots were selected is taken as constant.
 * @param lookup what productKeyLookup returned
 * @param dWeights `[T, H, k]` float32
 * @param inputs the query and the keys of that lookup
 * @returns dQuery `[T, H, 2, d]`, dKeys `[H, 2, n, d]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_INDEX_RANGE
 */
export function productKeyLookupBackward(
  lookup: Lookup,
  dWeights: Tensor,
  inputs: { query: Tensor; keys: Tensor },
  options?: Outputs<'dQuery' | 'dKeys'>,
): { dQuery: Tensor<'float32'>; dKeys: Tensor<'float32'> } {
  const where = 'productKeyLookupBackward'
  if (!isObject(lookup))
    fail('ERR_VALUE', where, 'lookup', 'be the result of productKeyLookup', lookup)
  const { scores, indices, weights, gate, compute } = lookup
  const { query, keys } = checkOptions(where, inputs, ['query', 'keys'], 'inputs')
  const { out } = checkOptions(where, options, ['out'])
  const { handles, device } = checkTensors(where, {
    dWeights,
    'lookup.scores': scores,
    'lookup.indices': indices,
    'lookup.weights': weights,
    query,
    keys,
  })
  const outputs = outputHandles(where, out, device, ['dQuery', 'dKeys'])
  const gradients = native.productKeyLookupBackward(
    outputs.dQuery,
    outputs.dKeys,
    handles.dWeights,
    handles['lookup.scores'],
    handles['lookup.indices'],
    handles['lookup.weights'],
    handles.query,
    handles.keys,
    choiceIndex(where, 'lookup.gate', gate, gates),
    computeCode(where, device, compute),
  )
  return resultTensors(device, gradients, out)
}

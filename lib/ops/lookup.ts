import { native, type TensorHandle } from '../binding.js'
import { fail } from '../errors.js'
import { choice, integer, options } from '../options.js'
import { optionalHandle, type Tensor } from '../tensor.js'
import { type OutOptions, type Outputs, outputs, prepare, wrap } from './call.js'

/** Half-key scores of every query: `scores[t, h, p, j] = <query[t, h, p, :], keys[h, p, j, :]>`. For study and tests: {@link productKeyLookup} never stores them.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]` of the dtype of the query
 * @returns `[T, H, 2, n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function productKeyScores(query: Tensor, keys: Tensor, given?: OutOptions): Tensor {
  options('productKeyScores', given, ['out'])
  const { list, device, out } = prepare('productKeyScores', { query, keys }, given)
  return wrap(device, native.productKeyScores(out, list[0]!, list[1]!), given?.out)
}

/** The k greatest values of the last axis, sorted: value descending, then index ascending. NaN counts as the greatest.
 * @param x `[..., n]` float32
 * @param k from 1 to n
 * @returns values `[..., k]` float32 and indices `[..., k]` int32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for k outside 1 … n */
export function topK(
  x: Tensor,
  k: number,
  given?: Outputs<'values' | 'indices'>,
): { values: Tensor; indices: Tensor } {
  const { out } = options('topK', given, ['out'])
  const { list, device } = prepare('topK', { x })
  integer('topK', 'k', k)
  const [values, indices] = outputs('topK', out, device, 'values', 'indices')
  const r = native.topK(values, indices, list[0]!, k)
  return {
    values: wrap(device, r.values, out?.values),
    indices: wrap(device, r.indices, out?.indices),
  }
}

const gates: readonly Gate[] = ['softmax', 'relu', 'sigmoid', 'none']
/** How scores become weights: softmax over the k winners, or each by itself. */
export type Gate = 'softmax' | 'relu' | 'sigmoid' | 'none'

/**
 * What a lookup found: the k best slots of each token and head, best first, and what its backward
 * needs.
 */
export interface Lookup {
  /** `[T, H, k]` float32: sum of the two half scores; -Infinity at an empty place. */
  scores: Tensor
  /** `[T, H, k]` int32: slot = i1 * n + i2; -1 at an empty place. */
  indices: Tensor
  /** `[T, H, k]` float32: the gate over the scores; 0 at an empty place. */
  weights: Tensor
  /** The gate of the weights. */
  gate: Gate
  /** k. */
  knn: number
}

/** Options of the operation of that name. */
export interface LookupOptions extends Outputs<'scores' | 'indices' | 'weights'> {
  /** Winners per token and head. May exceed n; places that can't be filled are empty. */
  knn: number
  /** Default 'softmax'. */
  gate?: Gate
  /** `[H, 2, n]` uint8: half-keys with 0 are never selected. */
  mask?: Tensor
}

/** Product-key lookup (Lample et al. 2019, section 3.1): the exact best k of n*n slots from the top k of each half, ties in a total order.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]` of the dtype of the query
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION */
export function productKeyLookup(query: Tensor, keys: Tensor, given: LookupOptions): Lookup {
  const where = 'productKeyLookup'
  const o = options(where, given, ['knn', 'gate', 'mask', 'out'])
  const { list, device } = prepare(where, { query, keys })
  const gate = o.gate ?? 'softmax'
  const knn = integer(where, 'knn', o.knn)
  const mask = optionalHandle(where, 'mask', o.mask, device)
  const [s, i, w] = outputs(where, o.out, device, 'scores', 'indices', 'weights')
  const r = native.productKeyLookup(
    s,
    i,
    w,
    list[0]!,
    list[1]!,
    mask,
    knn,
    choice(where, 'gate', gate, gates),
  )
  return {
    scores: wrap(device, r.scores, o.out?.scores),
    indices: wrap(device, r.indices, o.out?.indices),
    weights: wrap(device, r.weights, o.out?.weights),
    gate,
    knn,
  }
}

/** Gradients of {@link productKeyLookup}, selection taken as constant.
 * @param dWeights `[T, H, k]` float32
 * @returns dQuery `[T, H, 2, d]`, dKeys `[H, 2, n, d]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_INDEX_RANGE */
export function productKeyLookupBackward(
  lookup: Lookup,
  dWeights: Tensor,
  inputs: { query: Tensor; keys: Tensor },
  given?: Outputs<'dQuery' | 'dKeys'>,
): { dQuery: Tensor; dKeys: Tensor } {
  const where = 'productKeyLookupBackward'
  if (typeof lookup !== 'object' || lookup === null)
    fail('ERR_VALUE', where, 'lookup', 'be the result of productKeyLookup', lookup)
  const { query, keys } = options(where, inputs, ['query', 'keys'])
  const { out } = options(where, given, ['out'])
  const { scores, indices, weights } = lookup
  const all = {
    dWeights,
    'lookup.scores': scores,
    'lookup.indices': indices,
    'lookup.weights': weights,
    query: query!,
    keys: keys!,
  }
  const { list, device } = prepare(where, all)
  const [dw, s, i, w, q, ks] = list as [
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
    TensorHandle,
  ]
  const [dQuery, dKeys] = outputs(where, out, device, 'dQuery', 'dKeys')
  const r = native.productKeyLookupBackward(
    dQuery,
    dKeys,
    dw,
    s,
    i,
    w,
    q,
    ks,
    choice(where, 'lookup.gate', lookup.gate, gates),
  )
  return { dQuery: wrap(device, r.dQuery, out?.dQuery), dKeys: wrap(device, r.dKeys, out?.dKeys) }
}

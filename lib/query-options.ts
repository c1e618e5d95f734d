// The options of the query and its lookup, which memory layers and PEER layers share.

import type { QueryArguments } from './binding.js'
import type { Compute } from './compute.js'
import { fail } from './errors.js'
import type { LayerConfig } from './layer.js'
import { checkBoolean, checkInteger, checkProduct, choiceIndex } from './options.js'

// n*n slots are numbered by an int32.
const maxKeys = 46340
// So are the entries of a bag.
const maxEntries = 2 ** 31 - 1

/** Options of the query and its lookup, which memory and PEER layers share. */
export interface QueryOptions {
  /** Model width, C. */
  inputDim: number
  /** Lookups per token, H. Default 4. */
  heads?: number
  /** Slots read per head, k. Default 32. */
  knn?: number
  /** Half-keys per half, n; the table has n*n slots. Default 1024. */
  nKeys?: number
  /** Query width per head, 2d; even. Default 512. */
  keyDim?: number
  /** A bias in the query projection. Default true. */
  queryBias?: boolean
  /**
   * 'rms' normalises each head's query to unit root mean square, with a learned gain
   * `query_norm.weight`. Default 'none'.
   */
  queryNorm?: 'none' | 'rms'
  /**
   * Of the layer's matrix products: projections, gates and scores of half-keys. Value rows are
   * summed in float32. Default 'float32'.
   */
  compute?: Compute
  /** Of the parameters' random numbers. Default: the next of the device's counter. */
  seed?: number
}

export const queryOptionNames = [
  'inputDim',
  'heads',
  'knn',
  'nKeys',
  'keyDim',
  'queryBias',
  'queryNorm',
  'compute',
  'seed',
] as const satisfies readonly (keyof QueryOptions)[]

/** The options with their defaults; queryNorm: whether it is 'rms'. */
export type CheckedQuery = Required<Omit<QueryOptions, 'queryNorm' | 'compute'>> & {
  queryNorm: boolean
}

export function checkQuery(where: string, options: Partial<QueryOptions>): CheckedQuery {
  const { inputDim, heads, knn, nKeys, keyDim, queryBias, queryNorm, seed } = options
  const width = checkInteger(where, 'keyDim', keyDim ?? 512, 2)
  if (width % 2 !== 0) {
    const hint = `keyDim ${width + 1} would do.`
    fail('ERR_VALUE', where, 'keyDim', 'be even: a query is two halves', width, hint)
  }
  const checked = {
    inputDim: checkInteger(where, 'inputDim', inputDim),
    heads: checkInteger(where, 'heads', heads ?? 4),
    knn: checkInteger(where, 'knn', knn ?? 32, 1, maxEntries),
    nKeys: checkInteger(where, 'nKeys', nKeys ?? 1024, 1, maxKeys),
    keyDim: width,
    queryBias: checkBoolean(where, 'queryBias', queryBias ?? true),
    queryNorm: choiceIndex(where, 'queryNorm', queryNorm ?? 'none', ['none', 'rms']) === 1,
    seed: checkInteger(where, 'seed', seed ?? 0, 0),
  }
  checkProduct(where, { heads: checked.heads, knn: checked.knn }, maxEntries)
  const queryWidth = { heads: checked.heads, keyDim: checked.keyDim }
  checkProduct(where, { ...queryWidth, inputDim: checked.inputDim })
  checkProduct(where, { ...queryWidth, nKeys: checked.nKeys })
  return checked
}

/** The arguments of a native constructor that concern the query; compute: its number there. */
export function queryArguments(query: CheckedQuery, compute: number): QueryArguments {
  const { inputDim, heads, knn, nKeys, keyDim, queryBias, queryNorm, seed } = query
  return [inputDim, heads, knn, nKeys, keyDim, queryBias, queryNorm, seed, compute]
}

/** The options again, for {@link TableLayer.config}: without the seed. */
export function queryConfig({ seed, queryNorm, ...query }: CheckedQuery): LayerConfig {
  return { ...query, queryNorm: queryNorm ? 'rms' : 'none' }
}

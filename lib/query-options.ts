// The options that memory layers and PEER layers share.

import { type Device, expectDevice } from './device.js'
import { fail } from './errors.js'
import { boolean, choice, integer } from './options.js'

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
  /** Of the parameters' random numbers. Default 0. */
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
  'seed',
] as const

export interface CheckedQuery {
  inputDim: number
  heads: number
  knn: number
  nKeys: number
  keyDim: number
  queryBias: boolean
  queryNorm: boolean
  seed: number
}

export function checkQuery(where: string, device: Device, o: Partial<QueryOptions>): CheckedQuery {
  expectDevice(where, device)
  const keyDim = integer(where, 'keyDim', o.keyDim ?? 512, 2)
  if (keyDim % 2 !== 0) fail('ERR_VALUE', where, 'keyDim', 'be even: a query is two halves', keyDim)
  return {
    inputDim: integer(where, 'inputDim', o.inputDim),
    heads: integer(where, 'heads', o.heads ?? 4),
    knn: integer(where, 'knn', o.knn ?? 32),
    nKeys: integer(where, 'nKeys', o.nKeys ?? 1024, 1, 46340),
    keyDim,
    queryBias: boolean(where, 'queryBias', o.queryBias ?? true),
    queryNorm: choice(where, 'queryNorm', o.queryNorm ?? 'none', ['none', 'rms']) === 1,
    seed: integer(where, 'seed', o.seed ?? 0, 0),
  }
}

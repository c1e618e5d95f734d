// The problems, and what a contender must be able to do with them: each method prepares one for a
// problem, or is left out.

import type { HostTable } from '../data.js'
import type { Contender } from '../harness.js'
import type { Distribution, GemmShape, LookupShape, TokenShape } from '../shapes.js'

export interface Reads {
  indices: Int32Array
  weights: Float32Array
}

/** y[t] = sum over l of weights[t, l] * table[indices[t, l]]; result `y` [tokens, dim] */
export interface BagProblem {
  table: HostTable
  tokens: number
  bag: number
  /** Of the rows that are drawn. */
  distribution: Distribution
  sets: readonly Reads[]
}

/** dWeights[t, l] = <dy[t], table[indices[t, l]]>; result `dWeights` [tokens, bag] */
export interface BagWeightsProblem extends BagProblem {
  dy: Float32Array
}

export const rules = ['sgd', 'rowwiseAdagrad', 'adamw'] as const
export type Rule = (typeof rules)[number]
export const lr = 0.01
export const adam = { beta1: 0.9, beta2: 0.999, eps: 1e-8 }
export const adagradEps = 1e-10

/**
 * The table's gradient and the rule on each touched row; result `rows`: the rows of `sample` after
 * set 0, [sample, dim]
 */
export interface UpdateProblem extends BagWeightsProblem {
  rule: Rule
  sample: Int32Array
}

/** Exact best k of n*n; result `indices` and `weights` [tokens, heads, knn] */
export interface LookupProblem {
  shape: LookupShape
  /** [heads, 2, nKeys, half] */
  keys: Float32Array
  /** [tokens, heads, 2, half] each */
  queries: readonly Float32Array[]
}

/** y = x W^T, W [columns, inner]; result `y` [rows, columns] */
export interface GemmProblem {
  shape: GemmShape
  weight: Float32Array
  /** [rows, inner] each */
  inputs: readonly Float32Array[]
}

/** One token through a layer with gate; result `y` [inputDim] */
export interface TokenProblem {
  shape: TokenShape
  /** The layer's parameters by name, the table among them. */
  state: Record<string, Float32Array>
  /** [inputDim] each */
  inputs: readonly Float32Array[]
  /** The rows that each input reads. */
  rows: readonly Int32Array[]
}

export interface Backend {
  readonly name: string
  readonly threads: number
  /**
   * Milliseconds for which its own threads stay busy after their work: the next contender waits for
   * them.
   */
  readonly settle?: number
  bag?(problem: BagProblem): Promise<Contender | undefined>
  bagWeights?(problem: BagWeightsProblem): Promise<Contender | undefined>
  update?(problem: UpdateProblem): Promise<Contender | undefined>
  lookup?(problem: LookupProblem): Promise<Contender | undefined>
  token?(problem: TokenProblem): Promise<Contender | undefined>
  gemm?(problem: GemmProblem): Promise<Contender | undefined>
  /** Lets go of tables it has kept. */
  forget?(): void | Promise<void>
  close?(): void | Promise<void>
}

/**
 * Contenders that are a hundred times slower than others take part up to so many multiply-adds a
 * call: about a second of theirs.
 */
export const mostWorkOfSlow = 2 ** 28

/** Thread counts to measure: one, and all. */
export const threadCounts = (all: number): number[] => (all > 1 ? [1, all] : [1])

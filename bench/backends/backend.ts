// The problems, and the backends that prepare contenders for them: a method that is left out means
// that a backend can't.

import type { HostTable } from '../data.js'
import type { Contender } from '../harness.js'
import type { Distribution, GemmShape, GptShape, LookupShape, TokenShape } from '../shapes.js'

/** The input of a bag: [tokens, bag] each. */
interface BagInput {
  indices: Int32Array
  weights: Float32Array
}

/** y[t] = sum over l of weights[t, l] * table[indices[t, l]]; result `y` [tokens, dim] */
export interface BagProblem {
  table: HostTable
  tokens: number
  bag: number
  /** Of the sampled indices. */
  distribution: Distribution
  sets: readonly BagInput[]
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

/** Gradient and update of each touched row; result `rows` [sample, dim]: after set 0. */
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

/**
 * The products of a linear layer, W [columns, inner]: y = x W^T [rows, columns], dx = dy W [rows,
 * inner], or dW = dy^T x [columns, inner]; result `out`.
 */
export type Product = 'y' | 'dx' | 'dw'
export interface GemmProblem {
  shape: GemmShape
  product: Product
  weight: Float32Array
  /** [rows, inner] each */
  inputs: readonly Float32Array[]
  /** [rows, columns] */
  dy: Float32Array
}

/** One token through a layer with gate; result `y` [inputDim] */
export interface TokenProblem {
  shape: TokenShape
  /** The layer's parameters by name, the table among them. */
  state: Record<string, Float32Array>
  /** The rows that each input reads. */
  rows: readonly Int32Array[]
}

/**
 * A training step: loss, gradients, their norm clipped to 1, AdamW; result `loss` [1], before the
 * first step.
 */
export interface StepProblem {
  shape: GptShape
  /** [batch, time] each */
  sets: readonly { tokens: Int32Array; targets: Int32Array }[]
}

export interface Backend {
  readonly name: string
  readonly threads: number
  /** Milliseconds for which its threads spin after their work: the next contender waits. */
  readonly settle?: number
  bag?(problem: BagProblem): Promise<Contender | undefined>
  bagWeights?(problem: BagWeightsProblem): Promise<Contender | undefined>
  update?(problem: UpdateProblem): Promise<Contender | undefined>
  lookup?(problem: LookupProblem): Promise<Contender | undefined>
  token?(problem: TokenProblem): Promise<Contender | undefined>
  gemm?(problem: GemmProblem): Promise<Contender | undefined>
  step?(problem: StepProblem): Promise<Contender | undefined>
  /** Frees the tables that it keeps. */
  forget?(): void | Promise<void>
  close?(): void | Promise<void>
}

/** Thread counts to measure: one, and all. */
export const threadCounts = (all: number): number[] => (all > 1 ? [1, all] : [1])

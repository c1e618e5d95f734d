// The options of Transformer, and their check: everything that a decoder is made of, decided before
// anything is allocated. Loads nothing of the addon, so that plan() and the command line run
// without it.

import type { Compute } from '../compute.js'
import { fail } from '../errors.js'
import {
  checkBoolean,
  checkChoice,
  checkFloat32,
  checkInteger,
  checkOptions,
  checkProduct,
} from '../options.js'
import {
  type BlockConfig,
  checkBlocks,
  type FeedForwardSpec,
  type MemoryPlacement,
} from './block-config.js'
import { checkHeads } from './heads.js'

/** Options of {@link Transformer} that say what it is made of. */
export interface TransformerOptions {
  /** Symbols: tokens are from 0 to vocabSize - 1. */
  vocabSize: number
  /** Model width. */
  dim: number
  /** Blocks of attention and feed-forward. */
  layers: number
  /** Of the queries. */
  heads: number
  /** Of keys and values; divides heads. Default heads. */
  kvHeads?: number
  /** Width of a head, at most 256. Default dim / heads. */
  headDim?: number
  /** One for all layers, or a function of the layer's number. Default swiglu. */
  feedForward?: FeedForwardSpec | ((layer: number) => FeedForwardSpec | undefined)
  /** Memory layers in place of some feed-forwards, or beside them. */
  memory?: MemoryPlacement
  /** Tokens that the model can see at once. */
  contextLength: number
  /** Rotary positions; false: none. Default theta 10,000. */
  rope?: { theta?: number } | false
  /** Of the norms. Default 1e-5. */
  normEps?: number
  /** The head reads the rows of the embedding. Default false. */
  tieEmbeddings?: boolean
  /** Share of what attention and feed-forwards add that is dropped in training. Default 0. */
  dropout?: number
  /**
   * Of matrix products: projections, feed-forwards, memory layers, head. Attention itself and the
   * router of experts are computed in float32. Default 'float32'.
   */
  compute?: Compute
  /** Fixes all initial numbers. Default: the next of the device's counter. */
  seed?: number
}

/** Checked options with their defaults. */
export interface TransformerConfig {
  /** Symbols. */
  vocabSize: number
  /** Model width. */
  dim: number
  /** Of the queries. */
  heads: number
  /** Of keys and values. */
  kvHeads: number
  /** Width of a head. */
  headDim: number
  /** Tokens that the model can see at once. */
  contextLength: number
  /** Rotary positions; false: none. */
  rope: { theta: number } | false
  /** Of the norms. */
  normEps: number
  /** Whether the head reads the rows of the embedding. */
  tieEmbeddings: boolean
  /** Share of what attention and feed-forwards add that is dropped in training. */
  dropout: number
  /** Of matrix products. */
  compute: Compute
  /** As it was given. */
  seed: number | undefined
  /** One for each layer. */
  blocks: readonly BlockConfig[]
}

export const transformerOptionNames = [
  'vocabSize',
  'dim',
  'layers',
  'kvHeads', // before heads, which is as near to some misspellings
  'heads',
  'headDim',
  'feedForward',
  'memory',
  'contextLength',
  'rope',
  'normEps',
  'tieEmbeddings',
  'dropout',
  'compute',
  'seed',
] as const satisfies readonly (keyof TransformerOptions)[]

const maxLayers = 10_000

/**
 * Checks the options of a decoder. A message names the option, its rule, and a value that would do.
 * @throws ERR_OPTION for an unknown name, and for a layer that has a memory twice; ERR_VALUE
 */
export function checkTransformerOptions(
  where: string,
  options: TransformerOptions,
): TransformerConfig {
  const checked = checkOptions(where, options, transformerOptionNames)
  const vocabSize = checkInteger(where, 'vocabSize', checked.vocabSize, 1, 2 ** 31 - 1)
  const dim = checkInteger(where, 'dim', checked.dim, 1, 2 ** 24)
  const layers = checkInteger(where, 'layers', checked.layers, 1, maxLayers)
  checkProduct(where, { vocabSize, dim })
  const rope = checkRope(where, checked.rope ?? {})
  return {
    vocabSize,
    dim,
    ...checkHeads(where, dim, checked, rope !== false),
    contextLength: checkInteger(where, 'contextLength', checked.contextLength, 1, 2 ** 31 - 1),
    rope,
    normEps: checkFloat32(where, 'normEps', checked.normEps ?? 1e-5, 0),
    tieEmbeddings: checkBoolean(where, 'tieEmbeddings', checked.tieEmbeddings ?? false),
    dropout: checkDropout(where, checked.dropout ?? 0),
    compute: checkChoice(where, 'compute', checked.compute, ['float32', 'bfloat16', 'tf32']),
    seed: checked.seed === undefined ? undefined : checkInteger(where, 'seed', checked.seed, 0),
    blocks: checkBlocks(where, dim, layers, checked),
  }
}

function checkRope(where: string, rope: unknown): TransformerConfig['rope'] {
  if (rope === false) return false
  const { theta } = checkOptions(`${where}: rope`, rope as { theta?: number }, ['theta'])
  const value = checkFloat32(where, 'rope.theta', theta ?? 10_000)
  if (value <= 0) fail('ERR_VALUE', where, 'rope.theta', 'be above 0', value, '10000 would do.')
  return { theta: value }
}

function checkDropout(where: string, value: unknown): number {
  const dropout = checkFloat32(where, 'dropout', value, 0)
  if (dropout >= 1) fail('ERR_VALUE', where, 'dropout', 'be below 1', dropout, '0.1 would do.')
  return dropout
}

// The shapes of "Memory Layers at Scale" (Berges et al. 2024) and how they were trained.

import type { MemoryPlacement } from './block-config.js'
import type { TransformerOptions } from './transformer-config.js'

/** How a preset was trained: what optimizer, schedule, clipping and initial numbers take. */
export interface Recipe {
  /** Of AdamW. */
  readonly lr: number
  /** Of the memory tables; it follows the schedule as well. */
  readonly tableLr: number
  /** Of AdamW. */
  readonly betas: readonly [number, number]
  /** Of AdamW. */
  readonly eps: number
  /** On everything, tables included. */
  readonly weightDecay: number
  /** Every row is decayed and moved at each step, read or not. */
  readonly tableMode: 'dense'
  /** `schedules.warmupLinear` of these. */
  readonly schedule: { readonly warmup: number; readonly total: number; readonly floor: number }
  /** Of `fit`: memory tables are clipped apart from all the rest. */
  readonly clip: { readonly maxNorm: number; readonly tables: 'apart' }
  /** Sequences a device. */
  readonly batch: number
  /** Initial numbers; n, d: the width of a key, of a row, of the output, of the input. */
  readonly init: Readonly<Record<'keys' | 'values' | 'query' | 'projections' | 'gate', string>>
}

/** A published model. */
export interface Preset {
  /** For `Transformer` and `plan`. */
  readonly config: TransformerOptions
  /** How it was trained. */
  readonly recipe: Recipe
  /**
   * 'published': read in the published configurations. 'reported': named in the paper, its width
   * and depth read in a published one. 'derived': worked out from the number of parameters.
   */
  readonly source: 'published' | 'reported' | 'derived'
  /** Options that no publication says; those of `memory` as `memory.nKeys`. */
  readonly derived: readonly string[]
}

const recipe: Recipe = {
  lr: 1e-4,
  tableLr: 1e-3,
  betas: [0.9, 0.95],
  eps: 1e-8,
  weightDecay: 0.1,
  tableMode: 'dense',
  schedule: { warmup: 4000, total: 128_000, floor: 0.01 },
  clip: { maxNorm: 1, tables: 'apart' },
  batch: 8,
  init: {
    keys: 'uniform in ±1/sqrt(keyDim)',
    values: 'N(0, 1/sqrt(valueDim)), stored bfloat16',
    query: 'Xavier uniform, with a bias',
    projections: 'N(0, 1/sqrt(outputDim)): value_proj and the silu gate',
    gate: 'N(0, 1/sqrt(inputDim))',
  },
}

type Shape = Pick<TransformerOptions, 'dim' | 'layers' | 'heads'> & Partial<TransformerOptions>

const swiglu = (hiddenDim: number) => ({ kind: 'swiglu', hiddenDim }) as const
const shapes = {
  '134m': { dim: 768, layers: 12, heads: 12, feedForward: swiglu(2048) },
  '373m': { dim: 1024, layers: 24, heads: 16, feedForward: swiglu(2816) },
  '720m': { dim: 1536, layers: 22, heads: 12, feedForward: swiglu(4096) },
  '1.3b': { dim: 2048, layers: 25, heads: 16, feedForward: swiglu(5632) },
  '7b': { dim: 4096, layers: 32, heads: 32, feedForward: swiglu(11_008) },
  '8b': {
    dim: 4096,
    layers: 32,
    heads: 32,
    kvHeads: 8,
    feedForward: swiglu(14_336),
    vocabSize: 128_256,
  },
} satisfies Record<string, Shape>

function config(shape: Shape, memory?: MemoryPlacement): TransformerOptions {
  return { vocabSize: 32_000, contextLength: 4096, ...shape, ...(memory && { memory }) }
}

/** Three layers with one table of nKeys^2 slots, as wide as the model. */
function memoryPlus(dim: number, layers: number[], nKeys: number): MemoryPlacement {
  return {
    layers,
    nKeys,
    heads: 4,
    knn: 32,
    keyDim: dim / 2,
    valueDim: dim,
    gate: 'silu',
    shared: true,
    dtype: 'bfloat16',
  }
}

function preset(
  source: Preset['source'],
  derived: readonly string[],
  options: TransformerOptions,
  changes: Partial<Recipe> = {},
): Preset {
  return { config: options, recipe: { ...recipe, ...changes }, source, derived }
}

const dimensions = ['dim', 'layers', 'heads', 'feedForward']
const memory7b: MemoryPlacement = {
  ...memoryPlus(4096, [4, 12, 20], 1024),
  gate: 'none',
}

/**
 * Shapes and recipes of published models. `source` says where the numbers come from, and `derived`
 * which of them no publication gives.
 */
export const presets = {
  'dense-134m': preset('derived', dimensions, config(shapes['134m'])),
  'dense-373m': preset('published', [], config(shapes['373m'])),
  'dense-720m': preset('derived', dimensions, config(shapes['720m'])),
  'dense-1.3b': preset('published', [], config(shapes['1.3b'])),
  'dense-7b': preset('published', [], config(shapes['7b']), { batch: 2 }),
  'dense-8b': preset('derived', [...dimensions, 'kvHeads', 'vocabSize'], config(shapes['8b'])),
  'memory-plus-134m-1m': preset(
    'derived',
    [...dimensions, 'memory.keyDim'],
    config(shapes['134m'], memoryPlus(768, [2, 6, 10], 1024)),
  ),
  'memory-plus-373m-1m': preset(
    'published',
    [],
    config(shapes['373m'], memoryPlus(1024, [4, 12, 20], 1024)),
  ),
  'memory-plus-720m-1m': preset(
    'derived',
    [...dimensions, 'memory.keyDim'],
    config(shapes['720m'], memoryPlus(1536, [3, 11, 19], 1024)),
  ),
  'memory-plus-1.3b-1m': reported(1024),
  'memory-plus-1.3b-4m': reported(2048),
  'memory-plus-1.3b-16m': reported(4096),
  'memory-plus-1.3b-64m': reported(8192),
  'memory-7b-1m': preset(
    'published',
    ['memory.nKeys', 'memory.keyDim', 'memory.gate'],
    config(shapes['7b'], memory7b),
    { batch: 2 },
  ),
  'memory-plus-8b-16m': preset(
    'derived',
    [...dimensions, 'kvHeads', 'vocabSize', 'memory.layers'],
    config(shapes['8b'], memoryPlus(4096, [8, 16, 24], 4096)),
  ),
} as const satisfies Record<string, Preset>

/** A name of {@link presets}. */
export type PresetName = keyof typeof presets

function reported(nKeys: number): Preset {
  return preset(
    'reported',
    ['memory.layers'],
    config(shapes['1.3b'], memoryPlus(2048, [4, 12, 20], nKeys)),
  )
}

// The shapes that are measured, by name; tests use the tiny ones.

export interface TableShape {
  slots: number
  dim: number
}

export interface LookupShape {
  tokens: number
  heads: number
  knn: number
  /** Width of a half-key. */
  half: number
  nKeys: number
}

export interface GemmShape {
  rows: number
  inner: number
  columns: number
}

export interface TokenShape {
  inputDim: number
  heads: number
  knn: number
  keyDim: number
  nKeys: number
}

/** A decoder in training on `batch` sequences of `time` tokens; feed-forwards of 4 x dim, GELU. */
export interface GptShape {
  vocabSize: number
  dim: number
  layers: number
  heads: number
  batch: number
  time: number
  /** In place of the feed-forward of the second layer. */
  memory?: Omit<TokenShape, 'inputDim'>
}

/** A memory layer whose table grows, everything else the same. */
export interface LayerShape extends Omit<TokenShape, 'nKeys'> {
  valueDim: number
  tokens: number
  optimizer: 'rowwiseAdagrad' | 'adamw'
  nKeys: readonly number[]
}

export type TableDType = 'float32' | 'float16' | 'bfloat16' | 'int8'
export type Distribution = 'uniform' | 'zipf'

export const distributions: readonly Distribution[] = ['uniform', 'zipf']

export interface Shapes {
  tables: readonly TableShape[]
  /** Narrow dtypes are measured on the first table. */
  narrow: readonly TableDType[]
  bags: readonly number[]
  tokens: readonly number[]
  lookups: readonly LookupShape[]
  gemms: readonly GemmShape[]
  layers: readonly LayerShape[]
  token: TokenShape
  models: {
    /** Trained, dense and with its memory. */
    gpt: Required<GptShape>
    /** Trained, beside its products alone. */
    decoder: GptShape
    /** Tokens that are generated behind a prompt of 8. */
    generated: number
  }
}

const lookups = (
  tokens: readonly number[],
  halves: readonly number[],
  keys: readonly number[],
): LookupShape[] =>
  tokens.flatMap((t) =>
    halves.flatMap((half) => keys.map((nKeys) => ({ tokens: t, heads: 4, knn: 32, half, nKeys }))),
  )

const wide = {
  inputDim: 256,
  heads: 4,
  knn: 32,
  keyDim: 128,
  tokens: 512,
  optimizer: 'rowwiseAdagrad',
} as const

export const full: Shapes = {
  tables: [
    { slots: 1_048_576, dim: 256 },
    { slots: 262_144, dim: 1024 },
    { slots: 1_048_576, dim: 64 },
  ],
  narrow: ['float16', 'bfloat16', 'int8'],
  bags: [32, 128],
  tokens: [256, 2048],
  lookups: lookups([256, 2048], [64, 128, 256], [512, 1024, 2048]),
  gemms: [
    { rows: 256, inner: 1024, columns: 1024 },
    { rows: 2048, inner: 1024, columns: 1024 },
    { rows: 2048, inner: 256, columns: 1024 },
    { rows: 2048, inner: 256, columns: 256 },
    { rows: 2048, inner: 128, columns: 128 },
    { rows: 64, inner: 512, columns: 512 },
  ],
  layers: [
    { ...wide, valueDim: 64, nKeys: [1024, 2048, 4096] }, // 1, 4 and 16 million rows
    { ...wide, valueDim: 128, nKeys: [1024, 4096] },
    // From 262,144 rows, doubled and doubled again; the state is two tables more.
    { ...wide, inputDim: 128, knn: 16, valueDim: 128, optimizer: 'adamw', nKeys: [512, 724, 1024] },
  ],
  token: { inputDim: 256, heads: 4, knn: 32, keyDim: 128, nKeys: 512 },
  models: {
    gpt: {
      vocabSize: 97,
      dim: 128,
      layers: 3,
      heads: 4,
      batch: 16,
      time: 128,
      memory: { nKeys: 64, heads: 4, knn: 16, keyDim: 64 },
    },
    decoder: { vocabSize: 2048, dim: 128, layers: 2, heads: 4, batch: 32, time: 64 },
    generated: 120,
  },
}

/** One or two of each: minutes in all. */
export const quick: Shapes = {
  ...full,
  tables: [full.tables[0]!, full.tables[1]!],
  bags: [128],
  tokens: [256],
  lookups: lookups([256], [128], [512, 1024, 2048]),
  gemms: full.gemms.slice(1, 3),
  layers: full.layers.slice(-1),
}

const narrow = { inputDim: 32, heads: 2, knn: 8, keyDim: 32 }

/** Milliseconds in all, odd sizes among them: for tests. */
export const tiny: Shapes = {
  tables: [{ slots: 4096, dim: 64 }],
  narrow: full.narrow,
  bags: [12],
  tokens: [24],
  lookups: [{ tokens: 20, heads: 2, knn: 8, half: 24, nKeys: 40 }],
  gemms: [{ rows: 33, inner: 40, columns: 56 }],
  layers: [{ ...narrow, valueDim: 24, tokens: 24, optimizer: 'adamw', nKeys: [16, 32] }],
  token: { ...narrow, nKeys: 16 },
  models: {
    gpt: {
      vocabSize: 11,
      dim: 8,
      layers: 2,
      heads: 2,
      batch: 2,
      time: 12,
      memory: { nKeys: 16, heads: 2, knn: 4, keyDim: 8 },
    },
    decoder: { vocabSize: 33, dim: 8, layers: 1, heads: 2, batch: 2, time: 6 },
    generated: 4,
  },
}

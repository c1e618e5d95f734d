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
  ],
  layers: [
    { ...wide, valueDim: 64, nKeys: [1024, 2048, 4096] }, // 1, 4 and 16 million rows
    { ...wide, valueDim: 128, nKeys: [1024, 4096] },
    // From 262,144 rows, doubled and doubled again; the state is two tables more.
    { ...wide, inputDim: 128, knn: 16, valueDim: 128, optimizer: 'adamw', nKeys: [512, 724, 1024] },
  ],
  token: { inputDim: 256, heads: 4, knn: 32, keyDim: 128, nKeys: 512 },
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
}

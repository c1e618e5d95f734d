// What a decoder is made of, tensor by tensor, from its options alone: nothing is allocated.

import type { FeedForwardConfig, MemoryConfig } from './block-config.js'
import type { TransformerConfig } from './transformer-config.js'

/** A parameter of a model. */
export interface ParameterSize {
  /** 'embedding' and 'table' are tables of rows, whose gradients are sparse. */
  kind: 'dense' | 'embedding' | 'table'
  shape: readonly number[]
  dtype: 'float32' | 'bfloat16' | 'float16'
}

/** Multiply-adds of one token, forward. */
export interface MultiplyAdds {
  /** Its projections, and its products over half the context. */
  attention: number
  /** Feed-forwards, experts and PEER layers. */
  feedForward: number
  /** Memory layers. */
  memory: number
  /** From the last norm to the logits. */
  head: number
}

const dense = (...shape: number[]): ParameterSize => ({ kind: 'dense', shape, dtype: 'float32' })

/** Every parameter, a shared table once. */
export function parameterSizes(c: TransformerConfig): ParameterSize[] {
  const query = c.heads * c.headDim
  const key = c.kvHeads * c.headDim
  const shared = c.blocks.find((b) => b.memory?.shared)?.memory
  return [
    {
      kind: c.tieEmbeddings ? 'dense' : 'embedding',
      shape: [c.vocabSize, c.dim],
      dtype: 'float32',
    },
    ...(c.tieEmbeddings ? [] : [dense(c.vocabSize, c.dim)]),
    dense(c.dim),
    ...(shared ? [valueTable(shared)] : []),
    ...c.blocks.flatMap((block) => [
      dense(c.dim),
      dense(query, c.dim),
      dense(key, c.dim),
      dense(key, c.dim),
      dense(c.dim, query),
      ...(block.feedForward.kind === 'none' && !block.memory ? [] : [dense(c.dim)]),
      ...feedForwardSizes(block.feedForward, c.dim),
      ...(block.memory ? memorySizes(block.memory, c.dim) : []),
    ]),
  ]
}

function valueTable({ nKeys, valueDim, dtype }: MemoryConfig): ParameterSize {
  return { kind: 'table', shape: [nKeys * nKeys, valueDim], dtype }
}

function querySizes(
  { nKeys, heads, keyDim }: { nKeys: number; heads: number; keyDim: number },
  dim: number,
): ParameterSize[] {
  return [dense(heads, 2, nKeys, keyDim / 2), dense(heads * keyDim, dim), dense(heads * keyDim)]
}

function feedForwardSizes(f: FeedForwardConfig, dim: number): ParameterSize[] {
  switch (f.kind) {
    case 'none':
      return []
    case 'swiglu':
      return [dense(f.hiddenDim, dim), dense(f.hiddenDim, dim), dense(dim, f.hiddenDim)]
    case 'gelu':
      return mlpSizes(f.hiddenDim, dim)
    case 'moe': {
      const experts = Array.from({ length: f.experts }, () => mlpSizes(f.hiddenDim, dim))
      return [dense(f.experts, dim), ...experts.flat()]
    }
    case 'peer': {
      const table = { kind: 'table', shape: [f.nKeys * f.nKeys, dim], dtype: 'float32' } as const
      return [...querySizes(f, dim), table, table]
    }
  }
}

function mlpSizes(hidden: number, dim: number): ParameterSize[] {
  return [dense(hidden, dim), dense(hidden), dense(dim, hidden), dense(dim)]
}

function memorySizes(m: MemoryConfig, dim: number): ParameterSize[] {
  const silu = m.gate === 'silu'
  return [
    ...(m.shared ? [] : [valueTable(m)]),
    ...querySizes(m, dim),
    ...(silu ? [dense(m.valueDim, dim), dense(m.valueDim)] : []),
    ...(silu || m.valueDim !== dim ? [dense(dim, m.valueDim), dense(dim)] : []),
    ...(m.outputGate ? [dense(1, dim), dense(1)] : []),
  ]
}

/** The slots whose reads each memory and PEER layer counts: four bytes each. */
export function countedSlots(c: TransformerConfig): number[] {
  return c.blocks.flatMap(({ feedForward: f, memory }) => [
    ...(f.kind === 'peer' ? [f.nKeys * f.nKeys] : []),
    ...(memory ? [memory.nKeys * memory.nKeys] : []),
  ])
}

/** Of one token, forward, at the middle of a full context. */
export function multiplyAdds(c: TransformerConfig): MultiplyAdds {
  const { dim, heads, kvHeads, headDim, contextLength } = c
  const projections = dim * headDim * 2 * (heads + kvHeads)
  const scores = 2 * heads * headDim * ((contextLength + 1) / 2)
  const sum = (f: (block: TransformerConfig['blocks'][number]) => number) =>
    c.blocks.reduce((total, block) => total + f(block), 0)
  return {
    attention: c.blocks.length * (projections + scores),
    feedForward: sum((b) => feedForwardProducts(b.feedForward, dim)),
    memory: sum((b) => (b.memory ? memoryProducts(b.memory, dim) : 0)),
    head: dim * c.vocabSize,
  }
}

function queryProducts(
  { nKeys, heads, keyDim }: { nKeys: number; heads: number; keyDim: number },
  dim: number,
): number {
  return dim * heads * keyDim + heads * nKeys * keyDim
}

function feedForwardProducts(f: FeedForwardConfig, dim: number): number {
  switch (f.kind) {
    case 'none':
      return 0
    case 'swiglu':
      return 3 * dim * f.hiddenDim
    case 'gelu':
      return 2 * dim * f.hiddenDim
    case 'moe':
      return dim * f.experts + f.expertsPerToken * 2 * dim * f.hiddenDim
    case 'peer':
      return queryProducts(f, dim) + 2 * f.heads * f.knn * dim
  }
}

function memoryProducts(m: MemoryConfig, dim: number): number {
  const projection = m.gate === 'silu' || m.valueDim !== dim ? m.valueDim * dim : 0
  const gates = (m.gate === 'silu' ? m.valueDim * dim : 0) + (m.outputGate ? dim : 0)
  return queryProducts(m, dim) + m.heads * m.knn * m.valueDim + projection + gates
}

/** Float32 numbers that one token's forward saves for its backward. */
export function savedPerToken(c: TransformerConfig): number {
  const { dim, heads, kvHeads, headDim } = c
  const query = heads * headDim
  const key = kvHeads * headDim
  // input, normed input, queries, keys and values, what the attention gives, its row sums
  const attention = 2 * dim + query + 2 * key + query + heads
  const blocks = c.blocks.reduce((sum, { feedForward, memory }) => {
    const branches = feedForwardSaved(feedForward, dim) + (memory ? memorySaved(memory) : 0)
    return sum + attention + (branches > 0 ? 2 * dim + branches : 0)
  }, 0)
  // the last norm, the gradient that the head has computed already, and the tokens
  return blocks + 2 * dim + 1
}

function lookupSaved({ heads, knn, keyDim }: { heads: number; knn: number; keyDim: number }) {
  return heads * keyDim + 3 * heads * knn // query; scores, indices, weights
}

function feedForwardSaved(f: FeedForwardConfig, dim: number): number {
  switch (f.kind) {
    case 'none':
      return 0
    case 'swiglu':
      return 3 * f.hiddenDim
    case 'gelu':
      return 2 * f.hiddenDim
    case 'moe':
      return f.experts + f.expertsPerToken * (2 * dim + 2 * f.hiddenDim + 5)
    case 'peer':
      return lookupSaved(f) + f.heads * f.knn
  }
}

function memorySaved(m: MemoryConfig): number {
  return lookupSaved(m) + (m.gate === 'silu' ? 3 : 1) * m.valueDim + (m.outputGate ? 1 : 0)
}

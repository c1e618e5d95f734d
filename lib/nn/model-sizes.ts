// What a decoder is made of, tensor by tensor, from its options alone: nothing is allocated.

import type { FeedForwardConfig, MemoryConfig } from './block-config.js'
import type { TransformerConfig } from './transformer-config.js'

/** A parameter of a model. */
export interface ParameterSize {
  /** Rows: an 'embedding', one that is 'tied' to the head, or the 'table' of a memory. */
  kind: 'dense' | 'embedding' | 'tied' | 'table'
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
      kind: c.tieEmbeddings ? 'tied' : 'embedding',
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

/** How many numbers of four bytes each tensor has that a forward saves for its backward. */
export function savedTensors(c: TransformerConfig, tokens: number): number[] {
  const { dim, heads, kvHeads, headDim } = c
  const [query, key] = [heads * headDim, kvHeads * headDim]
  // input, normed input, queries, keys and values, what the attention gives, its row sums
  const attention = [dim, dim, query, key, key, query, heads].map((width) => tokens * width)
  const blocks = c.blocks.flatMap(({ feedForward, memory }) => {
    const branches = feedForwardSaved(feedForward, dim, tokens)
    if (memory) branches.push(...memorySaved(memory, dim, tokens))
    // input and normed input
    const norm = branches.length > 0 ? [tokens * dim, tokens * dim] : []
    return [...attention, ...norm, ...branches]
  })
  // of the last norm its input; what the head has computed already: the loss, and the gradients of
  // its input and weights; the tokens
  return [...blocks, tokens * dim, 1, tokens * dim, c.vocabSize * dim, tokens]
}

function lookupSaved(
  { heads, knn, keyDim }: { heads: number; knn: number; keyDim: number },
  tokens: number,
): number[] {
  const entries = tokens * heads * knn
  return [tokens * heads * keyDim, entries, entries, entries] // query; scores, indices, weights
}

function feedForwardSaved(f: FeedForwardConfig, dim: number, tokens: number): number[] {
  switch (f.kind) {
    case 'none':
      return []
    case 'swiglu':
      return Array<number>(3).fill(tokens * f.hiddenDim)
    case 'gelu':
      return Array<number>(2).fill(tokens * f.hiddenDim)
    case 'moe': {
      const ofExpert = Math.min(tokens, Math.ceil((f.expertsPerToken * tokens) / f.experts))
      const token = f.routing === 'token'
      const pairs = token ? f.expertsPerToken * tokens : f.experts * Math.max(1, ofExpert)
      // probabilities, where each expert's pairs begin, and of the loss or of each token's pairs
      const routing = [f.experts * tokens, f.experts + 1]
      routing.push(...(token ? [f.experts, f.experts] : [tokens + 1]))
      const widths = [1, 1, 1, 1, 1, dim, dim, f.hiddenDim, f.hiddenDim]
      return [...routing, ...widths.map((width) => pairs * width)]
    }
    case 'peer':
      return [...lookupSaved(f, tokens), tokens * f.heads * f.knn]
  }
}

function memorySaved(m: MemoryConfig, dim: number, tokens: number): number[] {
  const silu = m.gate === 'silu'
  const values = Array<number>(silu ? 3 : 1).fill(tokens * m.valueDim)
  // before the output gate, where that is none of the values
  const projected = m.outputGate && (silu || m.valueDim !== dim) ? [tokens * dim] : []
  return [...lookupSaved(m, tokens), ...values, ...projected, ...(m.outputGate ? [tokens] : [])]
}

// The systems that are compared: what the residual block is, at equal multiply-adds a fact.

import {
  type Device,
  MemoryLayer,
  ops,
  PeerLayer,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { FeedForward, Linear, Module, TokenChoiceExperts } from '../../lib/nn/index.js'
import { width } from '../demo/encoder.js'

/** A memory block. Rows are as wide as the model. */
export interface MemoryShape {
  nKeys: number
  heads: number
  knn: number
  keyDim: number
  gate: 'silu' | 'none'
  queryNorm: 'rms' | 'none'
  /** Blocks one after another, and whether they read one table. Default: one block. */
  blocks?: number
  shared?: boolean
}

export type Shape =
  | { kind: 'dense'; hidden: number }
  | { kind: 'moe'; experts: number; perToken: number; hidden: number }
  | { kind: 'peer'; nKeys: number; heads: number; knn: number; keyDim: number }
  | ({ kind: 'memory' } & MemoryShape)

/** A shape by the name that it has in the report. */
export interface System {
  label: string
  shape: Shape
}

export const memoryPlus: MemoryShape = {
  nKeys: 256,
  heads: 4,
  knn: 16,
  keyDim: 64,
  gate: 'silu',
  queryNorm: 'rms',
}

/** 139,264 multiply-adds of Memory+, or as near below as whole numbers allow. */
export const systems: readonly System[] = [
  { label: 'dense', shape: { kind: 'dense', hidden: 544 } },
  { label: 'dense x2', shape: { kind: 'dense', hidden: 1088 } },
  { label: 'dense x4', shape: { kind: 'dense', hidden: 2176 } },
  { label: 'MoE', shape: { kind: 'moe', experts: 138, perToken: 2, hidden: 237 } },
  { label: 'PEER', shape: { kind: 'peer', nKeys: 181, heads: 4, knn: 58, keyDim: 64 } },
  { label: 'Memory', shape: { kind: 'memory', ...memoryPlus, gate: 'none', knn: 80 } },
  { label: 'Memory+', shape: { kind: 'memory', ...memoryPlus } },
]

/** Memory+ with other numbers of slots; narrower keys pay for more of them. */
export const slotSystems: readonly System[] = [
  [64, 128],
  [96, 110],
  [128, 96],
  [192, 76],
  [256, 64],
  [384, 48],
].map(([nKeys = 0, keyDim = 0]) => ({
  label: `${(nKeys * nKeys).toLocaleString('en')} slots`,
  shape: { kind: 'memory', ...memoryPlus, nKeys, keyDim },
}))

/** Memory+ with one thing changed. */
export const ablations: readonly System[] = (
  [
    ['without the gate', { gate: 'none' }],
    ['queries not normalised', { queryNorm: 'none' }],
    ['1 head, 64 slots', { heads: 1, knn: 64 }],
    ['2 heads, 32 slots each', { heads: 2, knn: 32 }],
    ['8 heads, 8 slots each', { heads: 8, knn: 8 }],
    ['4 heads, 4 slots each', { knn: 4 }],
    ['4 heads, 64 slots each', { knn: 64 }],
    ['two blocks, one table', { blocks: 2, shared: true }],
    ['two blocks, two tables of half the rows', { blocks: 2, shared: false, nKeys: 181 }],
  ] as [string, Partial<MemoryShape>][]
).map(([label, change]) => ({ label, shape: { kind: 'memory', ...memoryPlus, ...change } }))

/** Multiply-adds of the block for one fact. */
export function multiplyAdds(shape: Shape): number {
  switch (shape.kind) {
    case 'dense':
      return 2 * width * shape.hidden
    case 'moe':
      return shape.perToken * 2 * width * shape.hidden + width * shape.experts
    case 'peer':
      return lookupAdds(shape) + 2 * shape.heads * shape.knn * width
    case 'memory': {
      const gate = shape.gate === 'silu' ? 2 * width * width : 0
      return (shape.blocks ?? 1) * (lookupAdds(shape) + shape.heads * shape.knn * width + gate)
    }
  }
}

/** Of the queries and of the scores of half-keys. */
function lookupAdds({ heads, keyDim, nKeys }: { heads: number; keyDim: number; nKeys: number }) {
  return width * heads * keyDim + heads * nKeys * keyDim
}

type Block = FeedForward | TokenChoiceExperts | PeerLayer | MemoryLayer

/** `logits = W (x + block(x)) + b`, with more blocks of a shape one after another. */
export class FactModel extends Module {
  readonly blocks: Block[]
  readonly head: Linear

  constructor(device: Device, shape: Shape, classes: number, seed: number) {
    super(device, { seed })
    this.blocks = blocksOf(device, shape)
    this.head = new Linear(device, { inputDim: width, outputDim: classes })
  }

  apply(x: Tensor): Tensor {
    return this.forward(x).logits
  }

  /** With the loss that balances experts, if there are any. */
  forward(x: Tensor): { logits: Tensor; balance?: Tensor } {
    let h = x
    let balance: Tensor | undefined
    for (const block of this.blocks) {
      if (block instanceof TokenChoiceExperts) {
        const { y, loss } = block.applyBalanced(h)
        balance = loss
        h = ops.add(h, y)
      } else h = ops.add(h, block.apply(h))
    }
    return { logits: this.head.apply(h), ...(balance && { balance }) }
  }
}

function blocksOf(device: Device, shape: Shape): Block[] {
  if (shape.kind === 'dense')
    return [new FeedForward(device, { dim: width, hiddenDim: shape.hidden })]
  if (shape.kind === 'moe') {
    const { experts, perToken, hidden } = shape
    return [
      new TokenChoiceExperts(device, {
        dim: width,
        hiddenDim: hidden,
        experts,
        expertsPerToken: perToken,
      }),
    ]
  }
  const { nKeys, heads, knn, keyDim } = shape
  const query = { inputDim: width, nKeys, heads, knn, keyDim }
  if (shape.kind === 'peer') return [new PeerLayer(device, { ...query, queryNorm: 'rms' })]
  const table = () => new ValueTable(device, { slots: nKeys ** 2, dim: width, init: { std: 0.1 } })
  const { gate, queryNorm, blocks = 1, shared = false } = shape
  const one = table()
  return Array.from({ length: blocks }, (_, i) => {
    const values = shared || i === 0 ? one : table()
    return new MemoryLayer(device, { ...query, gate, queryNorm, values })
  })
}

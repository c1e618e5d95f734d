// Decoders of random options: every kind of feed-forward and memory, mixed by layer.

import type { FeedForwardSpec, MemorySpec, TransformerOptions } from '../../lib/nn/index.js'
import { uniform } from './random.js'

/** Random integers in [low, high], and elements of lists. */
function drawer(seed: number) {
  const numbers = uniform(200, seed)
  let next = 0
  const integer = (low: number, high: number) =>
    low + Math.floor(((numbers[next++ % numbers.length]! + 1) / 2) * (high - low + 1))
  const pick = <T>(...list: readonly T[]): T => list[integer(0, list.length - 1)]!
  return { integer, pick }
}

/** The same for the same seed. Small enough for a reference of loops. */
export function randomDecoder(seed: number): TransformerOptions {
  const { integer, pick } = drawer(seed)
  const heads = integer(1, 4)
  const rope = pick<{ theta: number } | false>({ theta: 100 }, { theta: 5e5 }, false)
  const headDim = rope === false ? integer(1, 6) : 2 * integer(1, 3)
  const ownWidth = pick(true, false)
  const dim = ownWidth ? integer(3, 12) : heads * headDim
  const layers = integer(1, 3)
  const lookup = () => {
    const nKeys = integer(2, 6)
    return { nKeys, heads: integer(1, 3), knn: integer(1, nKeys), keyDim: 2 * integer(1, 4) }
  }
  const memory = (): MemorySpec => ({
    ...lookup(),
    valueDim: pick(dim, integer(1, 10)),
    gate: pick('silu', 'none'),
    outputGate: pick(true, false),
    dtype: pick('float32', 'bfloat16', 'float16'),
  })
  const beside = pick(true, false)
  const placed = pick(true, false) ? [...Array(layers).keys()].filter(() => pick(true, false)) : []
  const spec = (layer: number): FeedForwardSpec => {
    const hiddenDim = integer(1, 9)
    const experts = integer(1, 4)
    const activation = pick('gelu', 'relu')
    const dense = pick(
      { kind: 'swiglu', hiddenDim } as const,
      { kind: 'gelu', hiddenDim } as const,
      { kind: 'none' } as const,
    )
    if (placed.includes(layer)) return dense
    return pick<FeedForwardSpec>(
      dense,
      { kind: 'moe', experts, hiddenDim, expertsPerToken: integer(1, experts), balance: 0.3 },
      { kind: 'peer', activation, ...lookup() },
      { kind: 'memory', ...memory() },
    )
  }
  const specs = Array.from({ length: layers }, (_, layer) => spec(layer))
  return {
    vocabSize: integer(3, 20),
    dim,
    layers,
    heads,
    kvHeads: pick(...[1, 2, 3, 4].filter((count) => heads % count === 0)),
    ...(ownWidth && { headDim }),
    feedForward: (layer) => specs[layer],
    ...(placed.length > 0 && {
      memory: { layers: placed, ...memory(), shared: pick(true, false), beside },
    }),
    contextLength: integer(4, 9),
    rope,
    tieEmbeddings: pick(true, false),
    normEps: pick(1e-5, 1e-6),
    seed,
  }
}

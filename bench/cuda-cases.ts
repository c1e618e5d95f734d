// What bench/cuda.ts checks and times. A case is made on a device from seeds, so that the GPU and
// the CPU have the same numbers.

import {
  AdamW,
  type Device,
  MemoryLayer,
  type Optimizer,
  ops,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
} from '../lib/index.js'
import { sampleIndices } from './data.js'
import { distributions } from './shapes.js'

export interface Sizes {
  tokens: number
  dims: readonly number[] // of tables that bags read
  width: number // of linear maps and layers
  heads: number
  knn: number
  nKeys: number
  half: number
  sequence: number // tokens of attention
}

/** One problem on one device. */
export interface Work {
  /** Enqueues what is timed. */
  run(): void
  /** Enqueues it, and returns all outputs that are compared; before any run(). */
  results(): Record<string, Tensor>
  dispose(): void
}

type Compute = 'float32' | 'bfloat16'

export interface Case {
  name: string
  compute: Compute
  /** Of the profile, that are timed; undefined: the time of a run by the clock. */
  operations: readonly string[] | undefined
  bytes: number
  flops: number
  /** Has a table: it is compared with fewer slots. */
  table?: boolean
  /** Of each number, relative to the largest of an output. */
  tolerance?: number
  /**
   * In place of it, where a choice between scores that are equal but for rounding moves single
   * entries: of the root mean square of an output.
   */
  meanTolerance?: number
  make(device: Device, sizes: Sizes): Work
}

const computes = ['float32', 'bfloat16'] as const
const exact = 1e-5 // float32, in another order of the sums
/** Of sums of products; tensor cores may cut their sums off. */
const products = { float32: exact, bfloat16: 1e-4 } as const
const chosen = 0.05

/** Work whose tensors are those that `results` returns and `inputs`; a run drops its results. */
function work(inputs: readonly Tensor[], results: () => Record<string, Tensor>): Work {
  const made: Tensor[] = [...inputs]
  return {
    run: () => {
      for (const t of Object.values(results())) t.dispose()
    },
    results: () => {
      const outputs = results()
      made.push(...Object.values(outputs))
      return outputs
    },
    dispose: () => {
      for (const t of made) t.dispose()
    },
  }
}

function copies({ tokens, width }: Sizes): Case {
  const size = tokens * width * 16
  return {
    name: `copy of ${(size * 4) / 2 ** 20} MiB`,
    compute: 'float32',
    operations: ['copy'],
    bytes: 2 * size * 4,
    flops: 0,
    tolerance: 0,
    make: (device) => {
      const [from, to] = [device.normal([size], { seed: 1 }), device.empty([size])]
      return {
        run: () => void to.copyFrom(from),
        results: () => ({ copy: to.copyFrom(from) ?? to }),
        dispose: () => [from, to].forEach((t) => t.dispose()),
      }
    },
  }
}

function linears({ tokens, width }: Sizes): Case[] {
  const matrix = tokens * width
  const made = (device: Device) => [
    device.normal([tokens, width], { seed: 1 }),
    device.normal([width, width], { seed: 2 }),
    device.normal([tokens, width], { seed: 3 }),
  ]
  return computes.flatMap((compute) => [
    {
      name: `linear ${compute}, ${tokens} x ${width} x ${width}`,
      compute,
      operations: ['linear'],
      bytes: (2 * matrix + width ** 2) * 4,
      flops: 2 * matrix * width,
      tolerance: products[compute],
      make: (device) => {
        const inputs = made(device)
        const [x, w] = inputs as [Tensor, Tensor]
        return work(inputs, () => ({ y: ops.linear(x, w, undefined, { compute }) }))
      },
    },
    {
      name: `its gradients ${compute}`,
      compute,
      operations: ['linear_backward'],
      bytes: (3 * matrix + 3 * width ** 2) * 4,
      flops: 4 * matrix * width,
      tolerance: 4 * products[compute],
      make: (device) => {
        const inputs = made(device)
        const [x, w, dy] = inputs as [Tensor, Tensor, Tensor]
        return work(inputs, () => ({ ...ops.linearBackward(dy, x, w, { compute }) }))
      },
    },
  ])
}

function lookups({ tokens, heads, knn, nKeys, half }: Sizes): Case[] {
  const entries = tokens * heads * knn
  const made = (device: Device) => [
    device.normal([tokens, heads, 2, half], { seed: 4 }),
    device.normal([heads, 2, nKeys, half], { seed: 5 }),
    device.normal([tokens, heads, knn], { seed: 6 }),
  ]
  const operands = (tokens + nKeys) * heads * 2 * half * 4
  return computes.flatMap((compute) => [
    {
      name: `productKeyLookup ${compute}, n ${nKeys}, d ${half}, k ${knn}`,
      compute,
      operations: ['product_key_lookup'],
      bytes: operands + entries * 12,
      flops: tokens * heads * 2 * nKeys * half * 2,
      tolerance: 1e-4,
      make: (device) => {
        const inputs = made(device)
        const [query, keys] = inputs as [Tensor, Tensor]
        // slots whose scores are equal but for rounding may change places: they are not compared
        return work(inputs, () => {
          const { scores, weights, indices } = ops.productKeyLookup(query, keys, { knn, compute })
          indices.dispose()
          return { scores, weights }
        })
      },
    },
    {
      name: `its gradients ${compute}`,
      compute,
      operations: ['product_key_lookup_backward'],
      bytes: 2 * operands + entries * 16,
      flops: 0,
      tolerance: 1e-4,
      make: (device) => {
        const inputs = made(device)
        const [query, keys, dWeights] = inputs as [Tensor, Tensor, Tensor]
        // of indices that are given, so that the CPU's are the same
        const shape = [tokens, heads, knn]
        const sampled = sampleIndices('uniform', entries, nKeys ** 2, 7)
        const lookup = {
          indices: device.tensor(sampled, shape, 'int32'),
          scores: device.normal(shape, { seed: 8 }),
          weights: device.uniform(shape, { seed: 9 }),
          gate: 'softmax',
          compute,
        } as const
        const { indices, scores, weights } = lookup
        return work([...inputs, indices, scores, weights], () => ({
          ...ops.productKeyLookupBackward(lookup as never, dWeights, { query, keys }),
        }))
      },
    },
  ])
}

function bags({ tokens, heads, knn, dims }: Sizes): Case[] {
  const entries = tokens * heads * knn
  return distributions.flatMap((distribution) =>
    (['bfloat16', 'float32'] as const).flatMap((dtype) =>
      dims.flatMap((dim): Case[] => {
        const made = (device: Device, { nKeys }: Sizes) => {
          const slots = nKeys ** 2
          const shape = [tokens, heads * knn]
          return [
            device.normal([slots, dim], { seed: 2, dtype }),
            device.tensor(sampleIndices(distribution, entries, slots, 1), shape),
            device.uniform(shape, { seed: 1 }),
            device.normal([tokens, dim], { seed: 3 }),
          ]
        }
        const common = {
          compute: 'float32',
          bytes: entries * (dim * (dtype === 'float32' ? 4 : 2) + 8) + tokens * dim * 4,
          flops: 0,
          table: true,
          tolerance: exact,
        } as const
        const label = `${dtype}, dim ${dim}, ${distribution}`
        return [
          {
            ...common,
            name: `embeddingBag ${label}`,
            operations: ['embedding_bag'],
            make: (device, sizes) => {
              const inputs = made(device, sizes)
              const [table, indices, weights] = inputs as [Tensor, Tensor, Tensor]
              return work(inputs, () => ({ y: ops.embeddingBag(table, indices, weights) }))
            },
          },
          {
            ...common,
            name: `its weights' gradient ${label}`,
            operations: ['embedding_bag_weights_backward'],
            make: (device, sizes) => {
              const inputs = made(device, sizes)
              const [table, indices, weights, dy] = inputs as [Tensor, Tensor, Tensor, Tensor]
              const needs = { table: false, weights: true } as const
              return work(inputs, () => ({
                dWeights: ops.embeddingBagBackward(dy, table, indices, weights, { needs }).dWeights,
              }))
            },
          },
        ]
      }),
    ),
  )
}

function attentions({ sequence, width }: Sizes): Case[] {
  const d = Math.min(64, width / 2)
  const shape = [2, sequence, width / d, d]
  const made = (device: Device) => [1, 2, 3, 4].map((seed) => device.normal(shape, { seed }))
  const size = 2 * sequence * width
  const pairs = size * sequence // half of all pairs are seen, and each is multiplied and added
  return [
    {
      name: `attention, 2 x ${sequence} tokens, ${width / d} heads of ${d}`,
      compute: 'float32',
      operations: ['attention'],
      bytes: size * 16,
      flops: 2 * pairs,
      tolerance: exact,
      make: (device) => {
        const inputs = made(device)
        const [q, k, v] = inputs as [Tensor, Tensor, Tensor]
        return work(inputs, () => ({ ...ops.attention(q, k, v) }))
      },
    },
    {
      name: 'its gradients',
      compute: 'float32',
      operations: ['attention_backward'],
      bytes: size * 32,
      flops: 5 * pairs,
      tolerance: 4 * exact,
      make: (device) => {
        const inputs = made(device)
        const [q, k, v, dy] = inputs as [Tensor, Tensor, Tensor, Tensor]
        const { y, lse } = ops.attention(q, k, v)
        return work([...inputs, y, lse], () => ({
          ...ops.attentionBackward(dy, { q, k, v, y, lse }),
        }))
      },
    },
  ]
}

/** A memory layer, x and dy, made and freed together. */
function trained(device: Device, sizes: Sizes, compute: Compute, tokens = sizes.tokens) {
  const { width, heads, knn, nKeys, half } = sizes
  const layer = new MemoryLayer(device, {
    inputDim: width,
    heads,
    knn,
    nKeys,
    keyDim: 2 * half,
    compute,
    seed: 1,
  })
  const [x, dy] = [3, 4].map((seed) => device.normal([tokens, width], { seed })) as [Tensor, Tensor]
  const dispose = () => {
    layer.dispose()
    for (const t of [x, dy]) t.dispose()
  }
  return { layer, x, dy, dispose }
}

function layers({ tokens, width, heads, knn, nKeys, half }: Sizes): Case[] {
  const entries = tokens * heads * knn
  const bag = entries * (width * 4 + 8)
  const linear = 2 * tokens * width ** 2
  const query = 2 * tokens * width * heads * 2 * half
  const forward = 2 * linear + query + tokens * heads * 2 * nKeys * half * 2
  const infers = (compute: Compute, count?: number) => (device: Device, sizes: Sizes) => {
    const { layer, x, dispose } = trained(device, sizes, compute, count)
    const made = work([], () => ({ y: layer.infer(x) }))
    return {
      ...made,
      dispose: () => {
        made.dispose()
        dispose()
      },
    }
  }
  return computes.flatMap((compute): Case[] => {
    const common = { compute, operations: undefined, table: true, meanTolerance: chosen } as const
    return [
      {
        ...common,
        name: `a memory layer's forward, ${compute}`,
        bytes: bag,
        flops: forward,
        make: infers(compute),
      },
      {
        ...common,
        name: `forward, backward and step of row-wise Adagrad, ${compute}`,
        bytes: 3 * bag,
        flops: 3 * forward,
        make: (device, sizes) => step(device, sizes, compute, RowwiseAdagrad),
      },
      {
        ...common,
        name: `one token through it, ${compute}`,
        bytes: 0,
        flops: 0,
        make: infers(compute, 1),
      },
    ]
  })
}

type OptimizerClass = new (
  parameters: ReturnType<MemoryLayer['parameters']>,
  options: { lr: number },
) => Optimizer

/** A whole training step; compared: the gradient of the input, and what it changes the table by. */
function step(device: Device, sizes: Sizes, compute: Compute, rule: OptimizerClass): Work {
  const { layer, x, dy, dispose } = trained(device, sizes, compute)
  const optimizer = new rule(layer.parameters(), { lr: 1e-3 })
  const train = () => {
    const dx = layer.backward(layer.forward(x).context, dy)
    optimizer.step()
    optimizer.zeroGrad()
    return dx
  }
  return {
    run: () => train().dispose(),
    results: () => {
      const table = layer.values.weight
      const before = device.empty(table.shape)
      before.copyFrom(table)
      return { dx: train(), change: ops.sub(table, before) }
    },
    dispose: () => {
      optimizer.dispose()
      dispose()
    },
  }
}

/** The update of a table's touched rows, as wide as the layer; sort and update are timed. */
function updates({ tokens, heads, knn, nKeys, width }: Sizes): Case[] {
  const entries = tokens * heads * knn
  const rows = nKeys ** 2 * (1 - Math.exp(-entries / nKeys ** 2)) // touched, if drawn at random
  const rules = [
    ['SGD', Sgd, 0],
    ['row-wise Adagrad', RowwiseAdagrad, 0],
    ['AdamW', AdamW, 16],
  ] as const
  return rules.map(([name, rule, state]) => ({
    name: `table's ${name}, float32, dim ${width}, sort and update`,
    compute: 'float32',
    operations: ['sort_rows', 'sparse_update'],
    bytes: rows * width * (8 + state) + entries * (width * 4 + 8),
    flops: 0,
    table: true,
    meanTolerance: chosen,
    make: (device, sizes) => step(device, sizes, 'float32', rule),
  }))
}

export function cudaCases(sizes: Sizes): Case[] {
  return [
    copies(sizes),
    ...linears(sizes),
    ...lookups(sizes),
    ...bags(sizes),
    ...attentions(sizes),
    ...updates(sizes),
    ...layers(sizes),
  ]
}

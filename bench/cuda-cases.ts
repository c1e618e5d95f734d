// What bench/cuda.ts checks and times. A case is made on a device from seeds, so that the GPU and
// the CPU have the same numbers.

import { type Device, ops, type Tensor } from '../lib/index.js'
import { layers, updates } from './cuda-layers.js'
import { type Case, computes, exact, products, type Sizes, work } from './cuda-work.js'
import { sampleIndices } from './data.js'
import { distributions } from './shapes.js'

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
        results: () => {
          to.copyFrom(from)
          return { copy: to }
        },
        dispose: () => {
          for (const t of [from, to]) t.dispose()
        },
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
        // slots whose scores are equal but for rounding may be swapped: they are not compared
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

import { describe, expect, test } from 'vitest'
import { type Device, openDevice, ops, type Tensor } from '../../lib/index.js'
import { randomTensor } from '../support/random.js'

/** Runs on CPUs with 1, 2, 3 and 5 threads: every result must have the bits of one thread. */
async function expectSameBits(
  run: (device: Device) => Record<string, Tensor | undefined>,
): Promise<void> {
  const bitsWith = async (threads: number) => {
    const bits = new Map<string, Buffer>()
    for (const [name, tensor] of Object.entries(run(openDevice('cpu', { threads }))))
      bits.set(name, Buffer.from((await tensor!.data()).buffer))
    return bits
  }
  const wanted = await bitsWith(1)
  for (const threads of [2, 3, 5])
    for (const [name, bits] of await bitsWith(threads))
      expect(wanted.get(name)!.equals(bits), `${name} with ${threads} threads`).toBe(true)
}

describe.each(['float32', 'bfloat16'] as const)('products of %s', (compute) => {
  test.each([
    [5, 200, 150],
    [30, 333, 70],
    [257, 650, 129],
    [300, 70, 2],
  ] as const)('linear %i x %i -> %i: every thread count gives the same bits', (R, I, O) =>
    expectSameBits((device) => {
      const x = randomTensor(device, [R, I], 1).tensor
      const weight = randomTensor(device, [O, I], 2).tensor
      const dy = randomTensor(device, [R, O], 3).tensor
      const bias = randomTensor(device, [O], 4).tensor
      const y = ops.linear(x, weight, bias, { compute })
      return { y, ...ops.linearBackward(dy, x, weight, { compute }) }
    }),
  )

  test.each([
    [3, 2, 700, 24, 16],
    [70, 3, 300, 40, 32],
    [200, 1, 90, 70, 8],
    [300, 2, 600, 50, 32],
  ] as const)(
    'lookup, T %i H %i n %i d %i k %i: every thread count gives the same bits',
    (T, H, n, d, k) =>
      expectSameBits((device) => {
        const query = randomTensor(device, [T, H, 2, d], 1).tensor
        const keys = randomTensor(device, [H, 2, n, d], 2).tensor
        const dWeights = randomTensor(device, [T, H, k], 3).tensor
        const found = ops.productKeyLookup(query, keys, { knn: k, compute })
        const { scores, indices, weights } = found
        const gradients = ops.productKeyLookupBackward(found, dWeights, { query, keys })
        return { scores, indices, weights, ...gradients }
      }),
  )
})

test.each([
  ['a row that every entry reads', () => 1],
  ['rows of many entries and of one', (entry: number) => (entry % 3 ? entry % 2 : entry)],
] as const)('bags, %s: every thread count gives the same bits', (_, rowOf) =>
  expectSameBits((device) => {
    const [B, L, N, V] = [1500, 2, 3000, 70]
    const table = randomTensor(device, [N, V], 1).tensor
    const weights = randomTensor(device, [B, L], 2).tensor
    const dy = randomTensor(device, [B, V], 3).tensor
    const entries = Int32Array.from({ length: B * L }, (_, entry) => rowOf(entry))
    const indices = device.tensor(entries, [B, L])
    const { dWeights, dTable } = ops.embeddingBagBackward(dy, table, indices, weights)
    return {
      y: ops.embeddingBag(table, indices, weights),
      dWeights,
      dTable: dTable.toDense(),
    }
  }),
)

/** Results under names that begin with that of the operation. */
const prefixed = (name: string, results: Record<string, Tensor | undefined>) =>
  Object.fromEntries(Object.entries(results).map(([key, t]) => [`${name} ${key}`, t]))

test('operations of sequences: every thread count gives the same bits', () =>
  expectSameBits((device) => {
    const x = randomTensor(device, [4, 300, 40], 1).tensor
    const dy = randomTensor(device, [4, 300, 40], 2).tensor
    const weight = randomTensor(device, [40, 4], 3).tensor
    const table = randomTensor(device, [50, 40], 4).tensor
    const indices = device.tensor(Int32Array.from({ length: 1200 }, (_, i) => (i * 7) % 50))
    return {
      conv: ops.causalConv1d(x, weight),
      ...ops.causalConv1dBackward(dy, x, weight),
      rope: ops.rope(x.reshape([4, 300, 2, 20]), { offset: 9 }),
      dropout: ops.dropout(x, { p: 0.3 }),
      embedding: ops.embedding(table, indices),
      dTable: ops.embeddingBackward(dy.reshape([1200, 40]), table, indices).toDense(),
      samples: ops.multinomial(x, { topK: 9, topP: 0.9 }),
      permute: ops.permute(x, [2, 0, 1]),
      concat: ops.concat([x, dy], 2),
      slice: ops.slice(x, { begin: [1, 3, 5] }),
    }
  }))

test('norms and losses: every thread count gives the same bits', () =>
  expectSameBits((device) => {
    const x = randomTensor(device, [600, 77], 1).tensor
    const dy = randomTensor(device, [600, 77], 2).tensor
    const gain = randomTensor(device, [77], 3).tensor
    const targets = device.tensor(Int32Array.from({ length: 600 }, (_, i) => i % 77))
    return {
      norm: ops.rmsNorm(x, gain),
      ...ops.rmsNormBackward(dy, x, gain),
      layerNorm: ops.layerNorm(x, gain, gain),
      ...prefixed('layerNorm', ops.layerNormBackward(dy, x, gain)),
      softmax: ops.softmax(x),
      loss: ops.crossEntropy(x, targets),
      gelu: ops.gelu(x),
    }
  }))

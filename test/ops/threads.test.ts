import { expect, test } from 'vitest'
import { type Device, openDevice, ops, type Tensor } from '../../lib/index.js'
import { randomTensor } from '../support/random.js'

/**
 * Every result of these on CPUs with 1, 2, 3 and 5 threads: the bits must be those of one thread.
 */
async function expectSameBits(
  run: (device: Device) => Record<string, Tensor | undefined>,
): Promise<void> {
  const first = new Map<string, Buffer>()
  for (const threads of [1, 2, 3, 5]) {
    for (const [name, tensor] of Object.entries(run(openDevice('cpu', { threads })))) {
      const bits = Buffer.from((await tensor!.data()).buffer)
      if (threads === 1) first.set(name, bits)
      expect(first.get(name)!.equals(bits), `${name} with ${threads} threads`).toBe(true)
    }
  }
}

test.each([
  [5, 200, 150],
  [30, 333, 70],
  [257, 650, 129],
  [300, 70, 2],
] as const)('linear %i x %i -> %i: every thread count gives the same bits', (R, I, O) =>
  expectSameBits((device) => {
    const [x, w, dy] = [
      randomTensor(device, [R, I], 1).tensor,
      randomTensor(device, [O, I], 2).tensor,
      randomTensor(device, [R, O], 3).tensor,
    ]
    return {
      y: ops.linear(x, w, randomTensor(device, [O], 4).tensor),
      ...ops.linearBackward(dy, x, w),
    }
  }),
)

test.each([
  [3, 2, 700, 24, 16],
  [70, 3, 300, 40, 32],
  [200, 1, 90, 70, 8],
  [300, 2, 600, 50, 32],
] as const)(
  'lookup of %i tokens, %i heads, %i keys of %i, k %i: every thread count gives the same bits',
  (T, H, n, d, k) =>
    expectSameBits((device) => {
      const [query, keys] = [
        randomTensor(device, [T, H, 2, d], 1).tensor,
        randomTensor(device, [H, 2, n, d], 2).tensor,
      ]
      const found = ops.productKeyLookup(query, keys, { knn: k })
      const { scores, indices, weights } = found
      return {
        scores,
        indices,
        weights,
        ...ops.productKeyLookupBackward(found, randomTensor(device, [T, H, k], 3).tensor, {
          query,
          keys,
        }),
      }
    }),
)

test('norms and losses: every thread count gives the same bits', () =>
  expectSameBits((device) => {
    const [x, dy] = [
      randomTensor(device, [600, 77], 1).tensor,
      randomTensor(device, [600, 77], 2).tensor,
    ]
    const gain = randomTensor(device, [77], 3).tensor
    const targets = device.tensor(Int32Array.from({ length: 600 }, (_, i) => i % 77))
    return {
      norm: ops.rmsNorm(x, gain),
      ...ops.rmsNormBackward(dy, x, gain),
      softmax: ops.softmax(x),
      loss: ops.crossEntropy(x, targets),
      gelu: ops.gelu(x),
    }
  }))

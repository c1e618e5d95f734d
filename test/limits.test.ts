// Sizes whose products would overflow, huge axes beside empty ones, and arguments that change while
// they are read: an error with a code, or the right result, at once.

import { describe, test } from 'vitest'
import {
  type DType,
  type ErrorCode,
  MemoryLayer,
  ops,
  PeerLayer,
  ValueTable,
} from '../lib/index.js'
import * as nn from '../lib/nn/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'

onEveryDevice((device) => {
  const empty = (shape: readonly number[], dtype?: DType) => device.empty(shape, dtype)
  const layer = { inputDim: 8, nKeys: 4 }

  const refused: Record<string, [ErrorCode, () => unknown]> = {
    'a tensor beside an empty axis': ['ERR_SHAPE', () => empty([2 ** 26, 2 ** 26, 0])],
    'zeros beside an empty axis': ['ERR_SHAPE', () => device.zeros([0, 2 ** 51])],
    'numbers of an empty shape': ['ERR_SHAPE', () => device.tensor([], [2 ** 40, 2 ** 40, 0])],
    'random numbers of an empty shape': [
      'ERR_SHAPE',
      () => device.normal([2 ** 30, 0, 2 ** 30], { seed: 1 }),
    ],
    'a view beside an empty axis': ['ERR_SHAPE', () => empty([0]).reshape([2 ** 40, 0, 2 ** 40])],
    'linear of empty rows': [
      'ERR_SHAPE',
      () => ops.linear(empty([2 ** 32, 0]), empty([2 ** 32, 0])),
    ],
    'productKeyScores of empty halves': [
      'ERR_SHAPE',
      () => ops.productKeyScores(empty([2 ** 32, 1, 2, 0]), empty([1, 2, 2 ** 32, 0])),
    ],
    'productKeyLookup of empty halves': [
      'ERR_SHAPE',
      () => ops.productKeyLookup(empty([2 ** 40, 1, 2, 0]), empty([1, 2, 4, 0]), { knn: 2 ** 30 }),
    ],
    'embeddingBag of an empty table': [
      'ERR_SHAPE',
      () =>
        ops.embeddingBag(empty([0, 2 ** 30]), empty([2 ** 30, 0], 'int32'), empty([2 ** 30, 0])),
    ],
    'peer of empty tables': [
      'ERR_SHAPE',
      () =>
        ops.peer(
          empty([2 ** 30, 0]),
          empty([0, 0]),
          empty([0, 2 ** 30]),
          empty([2 ** 30, 0], 'int32'),
          empty([2 ** 30, 0]),
        ),
    ],
    'entries without a bag': [
      'ERR_SHAPE',
      () =>
        ops.embeddingBagBackward(
          empty([0, 4]),
          empty([3, 4]),
          device.tensor([0, 1, 2], [3], 'int32'),
          empty([3]),
          { offsets: device.tensor([0], [1], 'int32') },
        ),
    ],
    'knn of 2^52': [
      'ERR_VALUE',
      () => ops.productKeyLookup(empty([0, 1, 2, 2]), empty([1, 2, 4, 2]), { knn: 2 ** 52 }),
    ],
    'knn of 2^52 in a layer': [
      'ERR_VALUE',
      () => new MemoryLayer(device, { ...layer, knn: 2 ** 52 }),
    ],
    'heads * knn of 2^34': [
      'ERR_VALUE',
      () => new PeerLayer(device, { ...layer, heads: 2 ** 17, knn: 2 ** 17 }),
    ],
    'heads * keyDim of 2^64': [
      'ERR_VALUE',
      () => new MemoryLayer(device, { ...layer, heads: 2 ** 12, keyDim: 2 ** 52 }),
    ],
    'heads * keyDim * inputDim of 2^60': [
      'ERR_VALUE',
      () => new PeerLayer(device, { inputDim: 2 ** 30, heads: 2 ** 10, keyDim: 2 ** 20, nKeys: 2 }),
    ],
    'valueDim * outputDim of 2^60': [
      'ERR_VALUE',
      () => new MemoryLayer(device, { ...layer, nKeys: 1, valueDim: 2 ** 8, outputDim: 2 ** 52 }),
    ],
    'rows of 2^52': ['ERR_VALUE', () => new ValueTable(device, { slots: 4, dim: 2 ** 52 })],
    'experts of 2^31': [
      'ERR_VALUE',
      () => new nn.MixtureOfExperts(device, { dim: 1, hiddenDim: 1, experts: 2 ** 31 }),
    ],
    'dim * hiddenDim of 2^60': [
      'ERR_VALUE',
      () => new nn.MixtureOfExperts(device, { dim: 2 ** 30, hiddenDim: 2 ** 30, experts: 1 }),
    ],
    'a dense layer of 2^60': [
      'ERR_SHAPE',
      () => new nn.FeedForward(device, { dim: 2 ** 30, hiddenDim: 2 ** 30 }),
    ],
    'a map of 2^60': [
      'ERR_SHAPE',
      () => new nn.Linear(device, { inputDim: 2 ** 30, outputDim: 2 ** 30 }),
    ],
    'a norm of 2^52': ['ERR_SHAPE', () => new nn.RmsNorm(device, { dim: 2 ** 52 })],
    'an attention of 2^80': [
      'ERR_VALUE',
      () => new nn.Attention(device, { dim: 2 ** 40, heads: 2 ** 32 }),
    ],
    'an attention of width 2^52': [
      'ERR_VALUE',
      () => new nn.Attention(device, { dim: 2 ** 52, heads: 3 }),
    ],
  }
  test.each(Object.entries(refused))('%s is refused', async (_, [code, call]) => {
    await errorOf(code, call)
  })

  describe('a huge axis beside an empty one', () => {
    const [T, int] = [2 ** 40, 'int32'] as const
    const none: Record<string, () => unknown> = {
      linear: () => ops.linear(empty([T, 0]), empty([0, 0])),
      linearBackward: () => ops.linearBackward(empty([T, 0]), empty([T, 0]), empty([0, 0])),
      softmax: () => ops.softmax(empty([T, 0])),
      rmsNorm: () => ops.rmsNorm(empty([T, 0])),
      layerNorm: () => ops.layerNorm(empty([T, 0])),
      layerNormBackward: () => ops.layerNormBackward(empty([T, 0]), empty([T, 0])),
      rope: () => ops.rope(empty([0, T, 2, 4])),
      embedding: () => ops.embedding(empty([4, 0]), empty([0, T], int)),
      causalConv1d: () => ops.causalConv1d(empty([0, T, 3]), empty([3, 2])),
      causalConv1dBackward: () =>
        ops.causalConv1dBackward(empty([T, 0, 3]), empty([T, 0, 3]), empty([3, 2])),
      dropout: () => ops.dropout(empty([0, T]), { p: 0.5 }),
      multinomial: () => ops.multinomial(empty([T, 0, 5])),
      permute: () => ops.permute(empty([T, 0, 2]), [2, 0, 1]),
      slice: () => ops.slice(empty([T, 0, 2]), { begin: [7] }),
      concat: () => ops.concat([empty([T, 0]), empty([T, 0])], 0),
      gelu: () => ops.gelu(empty([0, T])),
      attention: () => ops.attention(empty([T, 0, 1, 4]), empty([T, 0, 1, 4]), empty([T, 0, 1, 4])),
      'attention without batches': () =>
        ops.attention(empty([0, T, 1, 4]), empty([0, T, 1, 4]), empty([0, T, 1, 4])),
      attentionBackward: () => {
        const q = empty([0, T, 1, 4])
        return ops.attentionBackward(q, { q, k: q, v: q, y: q, lse: empty([0, 1, T]) })
      },
      'productKeyScores without tokens': () =>
        ops.productKeyScores(empty([0, T, 2, 4]), empty([T, 2, 0, 4])),
      'productKeyScores without heads': () =>
        ops.productKeyScores(empty([8, 0, 2, 4]), empty([0, 2, 8, 4])),
      productKeyLookup: () =>
        ops.productKeyLookup(empty([T, 0, 2, 4]), empty([0, 2, 8, 4]), { knn: 4 }),
      embeddingBag: () => ops.embeddingBag(empty([4, 0]), empty([T, 0], int), empty([T, 0])),
      embeddingBagBackward: () =>
        ops.embeddingBagBackward(empty([T, 0]), empty([4, 0]), empty([T, 0], int), empty([T, 0])),
      peer: () =>
        ops.peer(empty([T, 0]), empty([4, 0]), empty([4, 0]), empty([T, 0], int), empty([T, 0])),
    }
    test.each(Object.entries(none))('%s has nothing to do', async (_, call) => {
      call()
      await device.synchronize()
    })
  })

  test('a shape that frees the data while it is read', async () => {
    const detach = (buffer: ArrayBuffer) => structuredClone(buffer, { transfer: [buffer] })
    const shrink = (buffer: ArrayBuffer) => Reflect.get(buffer, 'resize').call(buffer, 0)
    for (const [free, code] of [
      [detach, 'ERR_VALUE'],
      [shrink, 'ERR_SHAPE'],
    ] as const) {
      const buffer: ArrayBuffer = Reflect.construct(ArrayBuffer, [64, { maxByteLength: 128 }])
      const get = () => {
        free(buffer)
        return 16
      }
      const shape = Object.defineProperty([0], 0, { get })
      await errorOf(code, () => device.tensor(new Float32Array(buffer), shape))
    }
  })
})

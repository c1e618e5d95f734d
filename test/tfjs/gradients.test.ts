// memory-layers/tfjs against the same layer in TensorFlow.js operations, differentiated by
// TensorFlow.js.

import '@tensorflow/tfjs-backend-cpu'
import * as tf from '@tensorflow/tfjs-core'
import * as tfl from '@tensorflow/tfjs-layers'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  AdamW,
  MemoryLayer,
  type MemoryLayerOptions,
  openDevice,
  PeerLayer,
} from '../../lib/index.js'
import { asFunction, asInference, asLayer } from '../../lib/tfjs/index.js'
import { expectClose } from '../support/close.js'
import { errorOf } from '../support/errors.js'

const device = openDevice('cpu')
beforeAll(() => tf.setBackend('cpu'))

const shape = { inputDim: 6, heads: 2, knn: 3, nKeys: 5, keyDim: 8, seed: 4 } as const

/** A layer's parameters as TensorFlow.js variables, by published name. */
async function variables(layer: MemoryLayer): Promise<Record<string, tf.Variable>> {
  const list = Object.entries(layer.stateDict()).map(async ([name, t]) => {
    return [name, tf.variable(tf.tensor((await t.data()) as Float32Array, [...t.shape]))] as const
  })
  return Object.fromEntries(await Promise.all(list))
}

/** The memory layer of Berges et al. 2024 in TensorFlow.js operations alone. */
function reference(v: Record<string, tf.Variable>, x: tf.Tensor2D, silu: boolean): tf.Tensor2D {
  const { heads, knn: k, nKeys: n, keyDim } = shape
  const T = x.shape[0]
  const query = tf.add(
    tf.matMul(x, v['query_proj.query_mlps.0.weight']!, false, true),
    v['query_proj.query_mlps.0.bias']!,
  )
  const halves = tf.reshape(query, [T, heads, 2, keyDim / 2])
  const bag: tf.Tensor[] = []
  for (let h = 0; h < heads; h++) {
    const half = (p: number) => {
      const q = tf.reshape(tf.slice(halves, [0, h, p, 0], [T, 1, 1, keyDim / 2]), [T, keyDim / 2])
      const keys = tf.reshape(tf.slice(v['keys']!, [h, p, 0, 0], [1, 1, n, keyDim / 2]), [
        n,
        keyDim / 2,
      ])
      return tf.matMul(q, keys, false, true) as tf.Tensor2D
    }
    const [s1, s2] = [half(0), half(1)]
    const pairs = tf.reshape(tf.add(tf.expandDims(s1, 2), tf.expandDims(s2, 1)), [T, n * n])
    // The selection is a constant to the gradient, in the layer as here: TensorFlow.js has none for
    // topk.
    const { indices } = tf.topk(tf.tensor2d(pairs.dataSync() as Float32Array, [T, n * n]), k)
    const oneHot = tf.cast(tf.oneHot(indices as tf.Tensor2D, n * n), 'float32')
    const scores = tf.sum(tf.mul(oneHot, tf.expandDims(pairs, 1)), 2)
    const weights = tf.sum(tf.mul(oneHot, tf.expandDims(tf.softmax(scores), 2)), 1)
    bag.push(tf.matMul(weights as tf.Tensor2D, v['values.weight']! as tf.Tensor2D))
  }
  const y = tf.addN(bag)
  if (!silu) return y as tf.Tensor2D
  const a = tf.add(
    tf.matMul(x, v['swilu_projection.weight']!, false, true),
    v['swilu_projection.bias']!,
  )
  const z = tf.mul(y, tf.mul(a, tf.sigmoid(a)))
  return tf.add(
    tf.matMul(z as tf.Tensor2D, v['value_proj.weight']!, false, true),
    v['value_proj.bias']!,
  ) as tf.Tensor2D
}

describe.each(['none', 'silu'] as const)('gate %s', (gate) => {
  test('output and every gradient agree with TensorFlow.js', async () => {
    const layer = new MemoryLayer(device, { ...shape, gate } satisfies MemoryLayerOptions)
    const v = await variables(layer)
    const x = tf.randomNormal([7, shape.inputDim], 0, 1, 'float32', 11) as tf.Tensor2D
    const dy = tf.randomNormal([7, layer.outputDim], 0, 1, 'float32', 12) as tf.Tensor2D
    const memory = asFunction(tf, layer)
    expectClose('output', await memory(x).data(), await reference(v, x, gate === 'silu').data())
    expectClose('inference', await asInference(tf, layer)(x).data(), await memory(x).data(), 1e-6)

    const ours = tf.grad((input) => tf.mul(memory(input), dy))(x)
    const theirs = tf.variableGrads(
      () => tf.sum(tf.mul(reference(v, x, gate === 'silu'), dy)) as tf.Scalar,
    )
    const dx = tf.grad((input) => tf.mul(reference(v, input as tf.Tensor2D, gate === 'silu'), dy))(
      x,
    )
    expectClose('dx', await ours.data(), await dx.data())
    for (const p of layer.parameters()) {
      const grad = p.kind === 'dense' ? p.grad : p.grad.toDense()
      const wanted = theirs.grads[v[p.name]!.name]!
      expectClose(p.name, (await grad.data()) as Float32Array, await wanted.data())
    }
  })
})

test('batches of sequences, and PEER layers', async () => {
  const peer = new PeerLayer(device, { ...shape, outputDim: 4 })
  const x = tf.randomNormal([2, 3, shape.inputDim], 0, 1, 'float32', 5)
  const y = asFunction(tf, peer)(x)
  expect(y.shape).toEqual([2, 3, 4])
  const direct = peer.infer(device.tensor(x.dataSync() as Float32Array, x.shape))
  expect(y.dataSync()).toEqual(direct.dataSync())
  expect(tf.grad((input) => asFunction(tf, peer)(input))(x).shape).toEqual([2, 3, shape.inputDim])
})

test('a model trains with a memory layer in the middle', async () => {
  const layer = new MemoryLayer(device, {
    inputDim: 8,
    outputDim: 8,
    heads: 2,
    knn: 4,
    nKeys: 8,
    keyDim: 8,
    seed: 1,
  })
  const optimizer = new AdamW(layer.parameters(), { lr: 3e-2 })
  const model = tfl.sequential()
  model.add(tfl.layers.dense({ units: 8, inputShape: [5], activation: 'tanh' }))
  model.add(asLayer({ ...tf, layers: tfl.layers } as never, layer) as unknown as tfl.layers.Layer)
  model.add(tfl.layers.dense({ units: 3 }))
  model.compile({ optimizer: tf.train.adam(1e-2), loss: 'meanSquaredError' })
  const x = tf.randomNormal([64, 5], 0, 1, 'float32', 2)
  const y = tf.randomNormal([64, 3], 0, 1, 'float32', 3)
  const before = await layer.stateDict()['values.weight']!.data()
  const onBatchEnd = () => {
    optimizer.step()
    optimizer.zeroGrad()
  }
  const { history } = await model.fit(x, y, {
    epochs: 60,
    batchSize: 32,
    verbose: 0,
    callbacks: { onBatchEnd },
  })
  const losses = history['loss'] as number[]
  expect(losses.at(-1)!).toBeLessThan(0.5 * losses[0]!)
  expect(await layer.stateDict()['values.weight']!.data()).not.toEqual(before)
  expect((model.predict(x) as tf.Tensor).shape).toEqual([64, 3])
})

test('arguments, shapes and dtypes are checked', async () => {
  const layer = new MemoryLayer(device, shape)
  expect(await errorOf('ERR_VALUE', () => asFunction({} as never, layer))).toMatch(
    /import \* as tf/,
  )
  await errorOf('ERR_VALUE', () => asFunction(tf, {} as never))
  const memory = asFunction(tf, layer)
  await errorOf('ERR_SHAPE', () => memory(tf.zeros([2, 5])))
  await errorOf('ERR_DTYPE', () => memory(tf.zeros([2, 6], 'int32')))
  await errorOf('ERR_SHAPE', () => asInference(tf, layer)(tf.zeros([2, 5])))
})

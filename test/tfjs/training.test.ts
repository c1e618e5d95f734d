// When and what asLayer trains: against steps of the layer by hand.

import type { Rank, Scalar, Tensor2D } from '@tensorflow/tfjs-core'
import { describe, expect, test } from 'vitest'
import { AdamW, type MemoryLayer, Sgd, ValueTable } from '../../lib/index.js'
import { asFunction, asLayer } from '../../lib/tfjs/index.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import {
  compiled,
  dense,
  device,
  input,
  memoryLayer,
  numbersOf,
  small,
  target,
  tf,
} from './model.js'

const quiet = { epochs: 1, shuffle: false, verbose: 0 } as const

/** One batch of mean squared error by hand: the layer alone, y its output. */
function stepByHand(layer: MemoryLayer, optimizer: Sgd, x: number[][], y: number[][]): void {
  const rows = layer.device.tensor(x.flat(), [x.length, small.inputDim])
  const { output, context } = layer.forward(rows)
  const [out, wanted] = [output.dataSync(), y.flat()]
  const dy = out.map((v, i) => (2 * (v - wanted[i]!)) / out.length)
  layer.backward(context, layer.device.tensor(dy, output.shape))
  optimizer.step()
  optimizer.zeroGrad()
}

onEveryDevice((on) => {
  test('the first and only layer of a model trains as by hand, a step for each batch', async () => {
    const [layer, twin] = [memoryLayer({}, on), memoryLayer({}, on)]
    const model = compiled(
      asLayer(tf, layer, { optimizer: new Sgd(layer.parameters(), { lr: 0.1 }) }),
    )
    const optimizer = new Sgd(twin.parameters(), { lr: 0.1 })
    const [x, y] = [input(10, 1), target(10, 4, 2)]
    await model.fit(x, y, { ...quiet, batchSize: 4 })
    const [xs, ys] = [x.arraySync() as number[][], y.arraySync() as number[][]]
    for (const [begin, end] of [
      [0, 4],
      [4, 8],
      [8, 10],
    ])
      stepByHand(twin, optimizer, xs.slice(begin, end), ys.slice(begin, end))
    const wanted = numbersOf(twin)
    for (const [name, got] of Object.entries(numbersOf(layer)))
      expectClose(name, got, wanted[name]!, 1e-5)
    expect(layer.values.pendingReads).toBe(0)
  })
})

test.each(['sgd', 'momentum', 'adagrad', 'adadelta', 'adam', 'adamax', 'rmsprop'] as const)(
  'with the optimizer %s of TensorFlow.js it steps once a batch',
  async (name) => {
    const layer = memoryLayer()
    let steps = 0
    const inner = new Sgd(layer.parameters(), { lr: 0.1 })
    const step = () => {
      steps++
      inner.step()
    }
    const optimizer = { step, zeroGrad: () => inner.zeroGrad() }
    const model = tf.sequential({ layers: [asLayer(tf, layer, { optimizer }), dense(3)] })
    const theirs = name === 'momentum' ? tf.train.momentum(0.1, 0.9) : tf.train[name](0.1)
    model.compile({ optimizer: theirs, loss: 'meanSquaredError' })
    const before = numbersOf(layer)
    await model.fit(input(9, 1), target(9, 3, 2), { ...quiet, batchSize: 3 })
    expect(steps).toBe(3)
    expect(numbersOf(layer)['values.weight']).not.toEqual(before['values.weight'])
  },
)

test('layers that share an optimizer and a table step together, once a batch', async () => {
  const values = new ValueTable(device, { slots: 25, dim: 6 })
  const layers = [1, 2].map((seed) => memoryLayer({ values, outputDim: 6, seed }))
  const inner = new AdamW(
    layers.flatMap((l) => l.parameters()),
    { lr: 1e-2 },
  )
  const reads: number[] = []
  const optimizer = {
    step() {
      reads.push(values.pendingReads)
      inner.step()
    },
    zeroGrad: () => inner.zeroGrad(),
  }
  const model = compiled(...layers.map((l) => asLayer(tf, l, { optimizer })), dense(3))
  await model.fit(input(8, 1), target(8, 3, 2), { ...quiet, epochs: 2, batchSize: 4 })
  expect(reads).toEqual([2, 2, 2, 2])
})

test('fitDataset, trainOnBatch and several outputs', async () => {
  const layer = memoryLayer()
  const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
  const x = tf.input({ shape: [6] })
  const y = asLayer(tf, layer, { optimizer }).apply(x) as ReturnType<typeof tf.input>
  const outputs = [dense(2).apply(y), dense(3).apply(y)] as ReturnType<typeof tf.input>[]
  const model = tf.model({ inputs: x, outputs })
  model.compile({ optimizer: tf.train.adam(0.01), loss: 'meanSquaredError' })
  let before = numbersOf(layer)
  await model.trainOnBatch(input(4, 1), [target(4, 2, 2), target(4, 3, 3)])
  expect(numbersOf(layer)).not.toEqual(before)
  before = numbersOf(layer)
  const batches = [1, 2].map((seed) => ({
    xs: input(4, seed),
    ys: [target(4, 2, seed), target(4, 3, seed)],
  }))
  const dataset = { size: 2, batchSize: 4, iterator: async () => iterate(batches) }
  await model.fitDataset(dataset as never, { epochs: 1, verbose: 0 })
  expect(numbersOf(layer)).not.toEqual(before)
  expect(layer.values.pendingReads).toBe(0)
})

function iterate<T>(items: T[]) {
  const rest = [...items]
  return { next: async () => ({ done: rest.length === 0, value: rest.shift() ?? null }) }
}

test('evaluate, predict and gradients of an input change nothing', async () => {
  const layer = memoryLayer()
  const optimizer = new AdamW(layer.parameters(), { lr: 0.1 })
  const made = asLayer(tf, layer, { optimizer })
  const model = compiled(made, dense(3))
  const [x, y] = [input(4, 1), target(4, 3, 2)]
  const before = numbersOf(layer)
  model.evaluate(x, y)
  model.predict(x)
  const dx = tf.grad((v) => tf.sum(model.apply(v) as typeof v))(x)
  expect(dx.shape).toEqual([4, 6])
  expect(Math.max(...tf.abs(dx).dataSync())).toBeGreaterThan(0)
  expect(numbersOf(layer)).toEqual(before)
  // What the input's gradient queued is no part of the next batch.
  const twin = memoryLayer()
  const step = new AdamW(twin.parameters(), { lr: 0.1 })
  const other = compiled(asLayer(tf, twin, { optimizer: step }), dense(3))
  other.layers[1]!.setWeights(model.layers[1]!.getWeights())
  await model.fit(x, y, quiet)
  await other.fit(x, y, quiet)
  expect(numbersOf(layer)).toEqual(numbersOf(twin))
})

test('gradients that are added up by hand are stepped when they are applied', () => {
  const layer = memoryLayer()
  const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
  const model = compiled(asLayer(tf, layer, { optimizer }), dense(3))
  const sgd = tf.train.sgd(0.1)
  const before = numbersOf(layer)
  const loss = (seed: number) => () =>
    tf.losses.meanSquaredError(target(4, 3, seed), model.apply(input(4, seed)) as never) as never
  const [a, b] = [tf.variableGrads(loss(1)), tf.variableGrads(loss(2))]
  expect(layer.values.pendingReads).toBe(2)
  expect(numbersOf(layer)).toEqual(before)
  const sums = Object.entries(a.grads).map(([name, g]) => [name, tf.add(g, b.grads[name]!)])
  sgd.applyGradients(Object.fromEntries(sums))
  expect(layer.values.pendingReads).toBe(0)
  expect(numbersOf(layer)['values.weight']).not.toEqual(before['values.weight'])
})

describe('a layer that is not trainable', () => {
  test.each([true, false])('keeps its parameters, optimizer given: %s', async (given) => {
    const layer = memoryLayer()
    const optimizer = new AdamW(layer.parameters(), { lr: 0.1, weightDecay: 0.1 })
    const frozen = asLayer(tf, layer, given ? { optimizer } : {})
    const first = dense(6, [6])
    frozen.trainable = false
    const model = compiled(first, frozen, dense(3))
    const before = numbersOf(layer)
    const kernel = [...first.getWeights()[0]!.dataSync()]
    await model.fit(input(8, 1), target(8, 3, 2), { ...quiet, batchSize: 2 })
    expect(numbersOf(layer)).toEqual(before)
    expect(layer.values.pendingReads).toBe(0)
    for (const p of layer.parameters())
      if (p.kind === 'dense') expect(p.grad.dataSync().every((v) => v === 0)).toBe(true)
    expect([...first.getWeights()[0]!.dataSync()]).not.toEqual(kernel)
  })
})

describe('without an optimizer', () => {
  test('fit ends with what to do, not with a queue that grows', async () => {
    const layer = memoryLayer()
    const model = compiled(asLayer(tf, layer), dense(3))
    const fit = () => model.fit(input(64, 1), target(64, 3, 2), { ...quiet, batchSize: 1 })
    expect(await errorOf('ERR_VALUE', fit)).toMatch(/\{ optimizer \}.*onBatchEnd/s)
    expect(layer.values.pendingReads).toBe(32)
  })

  test('onBatchEnd steps, in a model whose first layer it is', async () => {
    const layer = memoryLayer()
    const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
    const model = compiled(asLayer(tf, layer, { maxWaiting: 1 }), dense(3))
    const before = numbersOf(layer)
    const onBatchEnd = () => {
      optimizer.step()
      optimizer.zeroGrad()
    }
    const callbacks = { onBatchEnd }
    await model.fit(input(64, 1), target(64, 3, 2), { ...quiet, batchSize: 1, callbacks })
    expect(numbersOf(layer)['values.weight']).not.toEqual(before['values.weight'])
  })
})

test('asFunction trains before any variable, with all variables or with a list', () => {
  const layer = memoryLayer()
  const memory = asFunction(tf, layer)
  const w = tf.variable(tf.ones<Rank.R2>([4, 3]))
  const loss = () => tf.sum(tf.matMul(memory(input(4, 1)) as Tensor2D, w)) as Scalar
  for (const list of [undefined, [w, ...memory.variables]]) {
    tf.train.sgd(0.1).minimize(loss, false, list as never)
    expect(layer.values.pendingReads).toBe(1)
    layer.values.zeroGrad()
  }
  tf.train.sgd(0.1).minimize(loss, false, [w])
  expect(layer.values.pendingReads).toBe(0)
})

test('a gradient of a gradient is refused', async () => {
  const memory = asFunction(tf, memoryLayer())
  const first = tf.grad((x) => tf.sum(tf.square(memory(x))))
  const twice = () => tf.grad((x) => tf.sum(tf.square(first(x))))(input(2, 1))
  expect(await errorOf('ERR_UNSUPPORTED', twice)).toMatch(/gradient of a gradient/)
})

test('a failed batch leaves no gradient to the next', async () => {
  const [a, b] = [memoryLayer({ outputDim: 6 }), memoryLayer()]
  const optimizer = new Sgd([...a.parameters(), ...b.parameters()], { lr: 0.1 })
  const model = compiled(...[a, b].map((l) => asLayer(tf, l, { optimizer })))
  const backward = a.backward
  a.backward = () => {
    throw new Error('no luck')
  }
  const [x, y] = [input(4, 1), target(4, 4, 2)]
  await expect(model.fit(x, y, quiet)).rejects.toThrow('no luck')
  expect(b.values.pendingReads).toBe(0)
  a.backward = backward
  await model.fit(x, y, quiet)
})

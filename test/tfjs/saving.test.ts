// model.save and tf.loadLayersModel with memory layers; counting; shapes that don't fit; memory.

import type { io, Tensor } from '@tensorflow/tfjs-core'
import { describe, expect, onTestFinished, test } from 'vitest'
import { AdamW, PeerLayer, Sgd, type TableLayer, ValueTable } from '../../lib/index.js'
import { asLayer, registerLayers, type TfMemoryLayer } from '../../lib/tfjs/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { settledMemory } from '../support/garbage.js'
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

type Model = ReturnType<typeof compiled>

/** The model, saved and loaded. */
async function reloaded(model: Model, config?: io.SaveConfig): Promise<Model> {
  let artifacts: io.ModelArtifacts | undefined
  const handler = tf.io.withSaveHandler(async (saved) => {
    artifacts = saved
    return { modelArtifactsInfo: tf.io.getModelArtifactsInfoForJSON(saved) }
  })
  await model.save(handler, config)
  const json = JSON.parse(JSON.stringify({ ...artifacts, weightData: undefined }))
  const { weightData } = artifacts!
  return (await tf.loadLayersModel(tf.io.fromMemory({ ...json, weightData }))) as Model
}

function memoriesOf(model: Model): (TfMemoryLayer & (typeof model.layers)[number])[] {
  return model.layers.filter((l) => 'memory' in l) as never
}

function countOf(layer: TableLayer): number {
  return layer.parameters().reduce((sum, p) => sum + p.value.size, 0)
}

test('parameters are counted, in the model and in its layer', () => {
  const layer = memoryLayer()
  const model = compiled(dense(6, [6]), asLayer(tf, layer), dense(3))
  expect(model.layers[1]!.countParams()).toBe(countOf(layer))
  expect(model.countParams()).toBe(42 + countOf(layer) + 15)
  const lines: string[] = []
  model.summary(80, undefined, (line) => lines.push(line))
  expect(lines.join('\n')).toContain(`Total params: ${57 + countOf(layer)}`)
})

describe.each([
  ['a memory layer', () => memoryLayer({ gate: 'silu', outputGate: true, queryNorm: 'rms' })],
  ['without a gate', () => memoryLayer({ gate: 'none', queryBias: false, valueDim: 4 })],
  ['a bfloat16 table', () => memoryLayer({ dtype: 'bfloat16', valueDim: 8 })],
  ['a float16 table', () => memoryLayer({ dtype: 'float16' })],
  ['a PEER layer', () => new PeerLayer(device, { ...small, activation: 'relu', seed: 5 })],
] as const)('%s', (_, make) => {
  test('is saved and loaded, bit for bit, and trains on', async () => {
    const layer: TableLayer = make()
    const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
    const model = compiled(asLayer(tf, layer, { optimizer }), dense(3))
    const [x, y] = [input(8, 1), target(8, 3, 2)]
    await model.fit(x, y, { epochs: 2, verbose: 0 })
    const copy = await reloaded(model)
    const [loaded] = memoriesOf(copy)
    expect(loaded!.memory).not.toBe(layer)
    expect(loaded!.memory.constructor).toBe(layer.constructor)
    expect(numbersOf(loaded!.memory)).toEqual(numbersOf(layer))
    expect((copy.predict(x) as Tensor).dataSync()).toEqual((model.predict(x) as Tensor).dataSync())
    loaded!.optimizer = new AdamW(loaded!.memory.parameters(), { lr: 1e-2 })
    copy.compile({ optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError' })
    await copy.fit(x, y, { verbose: 0 })
    expect(numbersOf(loaded!.memory)).not.toEqual(numbersOf(layer))
  })
})

test('a shared table is shared after loading; an int8 one comes with its scales', async () => {
  const values = new ValueTable(device, { slots: 25, dim: 6, dtype: 'int8' })
  values.weight.write(Int8Array.from({ length: 150 }, (_, i) => (i % 255) - 127))
  values.scales!.write(Float32Array.from({ length: 25 }, (_, i) => 1 / (i + 1)))
  const layers = [1, 2].map((seed) => memoryLayer({ values, outputDim: 6, seed }))
  const model = compiled(...layers.map((l) => asLayer(tf, l)))
  const copy = await reloaded(model)
  const [a, b] = memoriesOf(copy).map((l) => (l.memory as (typeof layers)[0]).values)
  expect(a).toBe(b)
  expect(a).not.toBe(values)
  expect(a!.weight.dataSync()).toEqual(values.weight.dataSync())
  expect(a!.scales!.dataSync()).toEqual(values.scales!.dataSync())
  const again = memoriesOf(await reloaded(model))[0]!.memory as (typeof layers)[0]
  expect(again.values).not.toBe(a)
  const x = input(4, 1)
  expect((copy.predict(x) as Tensor).dataSync()).toEqual((model.predict(x) as Tensor).dataSync())
})

test('a model in a model, the layer twice in it, saved with the optimizer', async () => {
  const layer = memoryLayer({ outputDim: 6 })
  let steps = 0
  const inner = new Sgd(layer.parameters(), { lr: 0.1 })
  const step = () => {
    steps++
    inner.step()
  }
  const made = asLayer(tf, layer, { optimizer: { step, zeroGrad: () => inner.zeroGrad() } })
  const x = tf.input({ shape: [6] })
  const twice = made.apply(made.apply(x)) as typeof x
  const body = tf.model({ inputs: x, outputs: twice })
  const model = tf.sequential({ layers: [body, dense(3)] })
  model.compile({ optimizer: tf.train.adam(0.1), loss: 'meanSquaredError' })
  await model.fit(input(8, 1), target(8, 3, 2), { batchSize: 4, verbose: 0 })
  expect(steps).toBe(2)
  expect(model.countParams()).toBe(countOf(layer) + 21)
  const copy = await reloaded(model, { includeOptimizer: true })
  expect((copy.predict(input(4, 3)) as Tensor).dataSync()).toEqual(
    (model.predict(input(4, 3)) as Tensor).dataSync(),
  )
  await model.fit(input(8, 1), target(8, 3, 2), { verbose: 0 })
})

test('getWeights has the parameters in their order, and setWeights takes them', () => {
  const [layer, other] = [memoryLayer(), memoryLayer({ seed: 9 })]
  const [a, b] = [asLayer(tf, layer), asLayer(tf, other)]
  compiled(a)
  compiled(b)
  const weights = a.getWeights()
  const shapes = [[0], ...layer.parameters().map((p) => p.value.shape)]
  expect(weights.map((w) => w.shape)).toEqual(shapes)
  b.setWeights(weights)
  expect(numbersOf(other)).toEqual(numbersOf(layer))
})

onEveryDevice((on) => {
  test('a model is loaded on the device that is registered', async () => {
    const layer = memoryLayer()
    const model = compiled(asLayer(tf, layer))
    registerLayers(tf, on)
    const [loaded] = memoriesOf(await reloaded(model))
    expect(loaded!.memory.device).toBe(on)
    expect(numbersOf(loaded!.memory)).toEqual(numbersOf(layer))
  })
})

test('registerLayers checks its arguments', async () => {
  await errorOf('ERR_DEVICE', () => registerLayers(tf, {} as never))
  await errorOf('ERR_VALUE', () => registerLayers({ ...tf, serialization: {} } as never, device))
  await errorOf('ERR_VALUE', () => registerLayers({} as never, device))
})

describe('a width that does not fit', () => {
  test.each([
    ['sequential', () => tf.sequential({ layers: [dense(5, [6]), asLayer(tf, memoryLayer())] })],
    ['functional', () => asLayer(tf, memoryLayer()).apply(tf.input({ shape: [5] }))],
    ['its own', () => tf.sequential({ layers: [asLayer(tf, memoryLayer(), { inputShape: [5] })] })],
    ['rank 4', () => asLayer(tf, memoryLayer()).apply(tf.input({ shape: [2, 3, 6] }))],
  ])('is refused when the layer is added: %s', async (_, add) => {
    const message = await errorOf('ERR_SHAPE', add)
    expect(message).toMatch(
      /^Layer memory_layer_MemoryLayer\d+: "input" must have shape \[batch, 6\]/,
    )
    expect(message).toMatch(/from layer (dense|input)|from layer memory/)
  })
})

test('options are checked', async () => {
  const layer = memoryLayer()
  await errorOf('ERR_OPTION', () => asLayer(tf, layer, { optimiser: 1 } as never))
  await errorOf('ERR_VALUE', () => asLayer(tf, layer, { optimizer: tf.train.sgd(1) as never }))
  await errorOf('ERR_VALUE', () => asLayer({ ...tf, layers: {} } as never, layer))
  expect(asLayer(tf, layer, { name: 'facts' }).name).toBe('facts')
})

test('sequences, batches of any size, masks', async () => {
  const warnings: unknown[] = []
  const warn = console.warn
  console.warn = (...words) => warnings.push(words)
  onTestFinished(() => {
    console.warn = warn
  })
  const layer = memoryLayer()
  const optimizer = new Sgd(layer.parameters(), { lr: 0.1 })
  const model = tf.sequential({
    layers: [
      tf.layers.embedding({ inputDim: 9, outputDim: 6, maskZero: true, inputLength: 7 }),
      asLayer(tf, layer, { optimizer }),
    ],
  })
  expect(model.outputShape).toEqual([null, 7, 4])
  model.compile({ optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError' })
  for (const rows of [1, 5, 3]) {
    const tokens = tf.randomUniform([rows, 7], 0, 9, 'int32', rows)
    await model.fit(tokens, tf.zeros([rows, 7, 4]), { verbose: 0 })
    expect((model.predict(tokens) as Tensor).shape).toEqual([rows, 7, 4])
  }
  expect(warnings).toEqual([])
})

test('300 batches, saves and loads keep nothing', async () => {
  const layer = memoryLayer()
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-3 })
  const model = compiled(asLayer(tf, layer, { optimizer }), dense(3))
  const [x, y] = [input(64, 1), target(64, 3, 2)]
  const fit = { epochs: 10, batchSize: 4, verbose: 0 } as const
  const memory = async () => [tf.memory().numTensors, await settledMemory(device)]
  await model.fit(x, y, fit)
  const saved = await reloaded(model)
  saved.dispose()
  const before = await memory()
  await model.fit(x, y, fit)
  for (let i = 0; i < 20; i++) {
    const copy = await reloaded(model)
    copy.dispose()
    tf.tidy(() => void model.predict(x))
  }
  expect(await memory()).toEqual(before)
  const tensors = tf.memory().numTensors
  model.dispose()
  expect(tf.memory().numTensors).toBeLessThan(tensors)
  expect(layer.infer(new Float32Array(6)).size).toBe(4) // the caller's, so it lives on
})

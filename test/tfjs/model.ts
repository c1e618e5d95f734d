// What the tests of the TensorFlow.js layer share: a tf with layers, models, and their tables.

import '@tensorflow/tfjs-backend-cpu'
import * as core from '@tensorflow/tfjs-core'
import * as layersApi from '@tensorflow/tfjs-layers'
import {
  type Device,
  MemoryLayer,
  type MemoryLayerOptions,
  openDevice,
  type TableLayer,
} from '../../lib/index.js'

export const tf = { ...core, ...layersApi }
export const device = openDevice('cpu')
export const small = { inputDim: 6, outputDim: 4, heads: 2, knn: 3, nKeys: 5, keyDim: 8 } as const

export function memoryLayer(
  options: Partial<MemoryLayerOptions> = {},
  on: Device = device,
): MemoryLayer {
  return new MemoryLayer(on, { ...small, seed: 3, ...options })
}

export function compiled(...layers: layersApi.layers.Layer[]): layersApi.Sequential {
  const model = tf.sequential({ layers })
  model.compile({ optimizer: tf.train.sgd(0.1), loss: 'meanSquaredError' })
  return model
}

export const dense = (units: number, inputShape?: number[]) =>
  tf.layers.dense({
    units,
    kernelInitializer: tf.initializers.randomNormal({ seed: 8, stddev: 0.5 }),
    ...(inputShape ? { inputShape } : {}),
  })

export const input = (rows: number, seed: number) =>
  tf.randomNormal([rows, small.inputDim], 0, 1, 'float32', seed)
export const target = (rows: number, units: number, seed: number) =>
  tf.randomNormal([rows, units], 0, 1, 'float32', seed)

/** Every parameter's numbers, by name. */
export function numbersOf(layer: TableLayer): Record<string, number[]> {
  return Object.fromEntries(layer.parameters().map((p) => [p.name, [...p.value.dataSync()]]))
}

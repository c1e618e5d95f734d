// A TensorFlow.js model with a memory layer in the middle, trained with model.fit.
//
//   npm install @tensorflow/tfjs
//   npx tsx examples/from-tfjs.ts
//
// The example itself uses three packages of TensorFlow.js: core, layers and the CPU backend.

import '@tensorflow/tfjs-backend-cpu'
import * as core from '@tensorflow/tfjs-core'
import * as layersApi from '@tensorflow/tfjs-layers'
import { AdamW, MemoryLayer, openDevice } from 'memory-layers'
import { asLayer } from 'memory-layers/tfjs'

// With the complete package: import * as tf from '@tensorflow/tfjs'
const tf = { ...core, ...layersApi }

// 512 random keys, each with one of 10 answers: facts that can only be remembered.
const facts = 512
const x = tf.randomNormal([facts, 16], 0, 1, 'float32', 1)
const answers = Array.from({ length: facts }, (_, i) => (i * 7919) % 10)
const y = tf.oneHot(tf.tensor1d(answers, 'int32'), 10)

const memory = new MemoryLayer(openDevice(), {
  inputDim: 32,
  heads: 4,
  knn: 8,
  nKeys: 32,
  keyDim: 32,
  queryNorm: 'rms',
  seed: 1,
})
const optimizer = new AdamW(memory.parameters(), { lr: 3e-3, tableLr: 3e-2 })

const model = tf.sequential()
model.add(tf.layers.dense({ units: 32, inputShape: [16] }))
// TensorFlow.js updates its own weights, `optimizer` the memory's, both after each batch.
model.add(asLayer(tf, memory, { optimizer }))
model.add(tf.layers.dense({ units: 10, activation: 'softmax' }))
model.compile({
  optimizer: tf.train.adam(3e-3),
  loss: 'categoricalCrossentropy',
  metrics: ['accuracy'],
})

await model.fit(x, y, {
  epochs: 40,
  batchSize: 128,
  verbose: 0,
  callbacks: {
    onEpochEnd: (epoch, logs) => {
      if (epoch % 10 !== 9) return
      const [loss, recall] = [logs!['loss']!, logs!['acc']! * 100]
      console.log(`epoch ${epoch + 1}: loss ${loss.toFixed(3)}, recall ${recall.toFixed(1)} %`)
    },
  },
})

// Trains a memory layer with nothing but this package: forward, the gradient of a loss, backward,
// step.
//
//   npx tsx examples/train-by-hand.ts

import { AdamW, MemoryLayer, openDevice, ops } from 'memory-layers'

const device = openDevice()
const dim = 32
const tokens = 256

// A frozen random map from x to a target: 256 pairs to remember.
const x = device.normal([tokens, dim], { seed: 1 })
const target = device.normal([tokens, dim], { seed: 2 })

const layer = new MemoryLayer(device, {
  inputDim: dim,
  heads: 4,
  knn: 8,
  nKeys: 64,
  keyDim: 32,
  seed: 3,
})
const optimizer = new AdamW(layer.parameters(), { lr: 3e-3, tableLr: 3e-2 })

for (let step = 1; step <= 200; step++) {
  const { output, context } = layer.forward(x)
  // loss = mean |output - target|^2, so its gradient is 2 (output - target) / count.
  const error = ops.add(output, target, { beta: -1 })
  const dOutput = ops.add(error, error, { alpha: 1 / output.size, beta: 1 / output.size })
  const dx = layer.backward(context, dOutput) // for the layers before this one
  optimizer.step() // every dense parameter, and each touched row of the table once
  optimizer.zeroGrad()

  if (step % 50 === 0) {
    const values = await error.data() // the only wait
    const loss = values.reduce((sum, v) => sum + v * v, 0) / values.length
    console.log(`step ${step}: loss ${loss.toFixed(4)}`)
  }
  // Tensors own memory: free what a step made.
  for (const t of [output, error, dOutput, dx]) t.dispose()
}

const touched = new Set(await layer.forward(x).context.lookup().indices.data())
console.log(`${touched.size} of ${layer.values.slots} slots hold what was learned`)

// The same package by require, and by import beside it: one copy of every class.

const { AdamW, MemoryLayer, openDevice } = require('memory-layers')
const { CrossEntropy } = require('memory-layers/nn')

async function main() {
  const device = openDevice('cpu', { threads: 2 })
  const layer = new MemoryLayer(device, {
    inputDim: 16,
    heads: 2,
    knn: 4,
    nKeys: 16,
    keyDim: 16,
    seed: 1,
  })
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
  const { output, context } = layer.forward(device.normal([64, 16], { seed: 1 }))
  layer.backward(context, output)
  optimizer.step()
  const modules = await import('memory-layers')
  const { Linear } = await import('memory-layers/nn')
  const linear = new Linear(device, { inputDim: 16, outputDim: 4 })
  const sum = modules.ops.add(linear.infer(output), device.zeros([64, 4]))
  console.log(
    JSON.stringify({
      shape: sum.shape,
      same: modules.Device === device.constructor,
      nn: typeof CrossEntropy,
    }),
  )
}

main()

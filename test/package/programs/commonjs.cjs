// The same package by require, and by import beside it: one addon, one set of numbers.

const { AdamW, MemoryLayer, openDevice } = require('memory-layers')
const { CrossEntropy } = require('memory-layers/nn')

async function main() {
  const device = openDevice('cpu', { threads: 2 })
  const layer = new MemoryLayer(device, { inputDim: 16, heads: 2, knn: 4, nKeys: 16, keyDim: 16, seed: 1 })
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
  const { output, context } = layer.forward(device.normal([64, 16], { seed: 1 }))
  layer.backward(context, output)
  optimizer.step()
  const { openDevice: fromModule } = await import('memory-layers')
  const numbers = await device.normal([4], { seed: 7 }).data()
  const same = await fromModule('cpu').normal([4], { seed: 7 }).data()
  console.log(JSON.stringify({ size: (await output.data()).length, same: numbers.join() === same.join(), nn: typeof CrossEntropy }))
}

main()

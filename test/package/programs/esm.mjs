// Trains a few steps with the package as an ES module; prints the losses.

import { AdamW, devices, MemoryLayer, MemoryLayersError, openDevice, ops } from 'memory-layers'
import { Linear } from 'memory-layers/nn'

const device = openDevice('cpu', { threads: 2 })
const layer = new MemoryLayer(device, {
  inputDim: 16,
  heads: 2,
  knn: 4,
  nKeys: 16,
  keyDim: 16,
  seed: 1,
})
const head = new Linear(device, { inputDim: 16, outputDim: 16, seed: 2 })
const optimizer = new AdamW([...layer.parameters(), ...head.parameters()], { lr: 1e-2 })
const x = device.normal([64, 16], { seed: 1 })

const losses = []
for (let step = 0; step < 10; step++) {
  const memory = layer.forward(x)
  const y = head.forward(memory.output)
  losses.push((await y.output.data()).reduce((sum, v) => sum + v * v, 0))
  layer.backward(memory.context, head.backward(y.context, y.output))
  optimizer.step()
  optimizer.zeroGrad()
}
const top = ops.topK(device.tensor([3, 1, 2], [1, 3]), 2)
let code
try {
  openDevice('gpu')
} catch (error) {
  code = error instanceof MemoryLayersError && error.code
}
console.log(
  JSON.stringify({
    losses,
    top: [...(await top.indices.data())],
    code,
    devices: devices().map((d) => d.kind),
  }),
)

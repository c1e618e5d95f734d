// Type-checked strictly and compiled by tsc as an ES module and as CommonJS, then run: ends with
// code 0 if the output has its size.

import { AdamW, type Device, type DType, MemoryLayer, openDevice, type Tensor } from 'memory-layers'
import { FeedForward } from 'memory-layers/nn'
import { asFunction, type TensorFlow } from 'memory-layers/tfjs' // TensorFlow.js is not here

declare const process: { exitCode: number }

const device: Device = openDevice('cpu')
const dtype: DType = 'float32'
const layer = new MemoryLayer(device, {
  inputDim: 16,
  heads: 2,
  knn: 4,
  nKeys: 16,
  keyDim: 16,
  gate: 'silu',
})
const block = new FeedForward(device, { dim: 16, hiddenDim: 32 })
const optimizer = new AdamW([...layer.parameters(), ...block.parameters()], {
  lr: 1e-3,
  tableMode: 'lazy',
})

async function step(x: Tensor): Promise<Float32Array> {
  const { output, context } = layer.forward(x)
  layer.backward(context, output)
  optimizer.step()
  const data = await output.data()
  if (!(data instanceof Float32Array)) throw new TypeError('float32 expected')
  return data
}

export const inTfjs = (tf: TensorFlow) => asFunction(tf, layer)

// @ts-expect-error: an option that does not exist
export const misspelt = () => new MemoryLayer(device, { inputDim: 16, head: 2 })

step(device.normal([8, 16], { seed: 1, dtype })).then((y) => {
  process.exitCode = y.length === 128 ? 0 : 1
})

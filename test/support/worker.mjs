// Trains in a worker thread with the built package, and posts a digest of the parameters.

import { createHash } from 'node:crypto'
import { parentPort, workerData } from 'node:worker_threads'

const { AdamW, MemoryLayer, openDevice } = await import(workerData.entry)
const device = openDevice(workerData.device, { threads: workerData.threads })
const layer = new MemoryLayer(device, {
  inputDim: 32,
  heads: 2,
  knn: 8,
  nKeys: 32,
  keyDim: 16,
  seed: workerData.seed,
})
const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
for (let step = 0; step < workerData.steps; step++) {
  const { context } = layer.forward(device.normal([workerData.tokens, 32], { seed: step }))
  layer.backward(context, device.normal([workerData.tokens, 32], { seed: 1000 + step }))
  optimizer.step()
  optimizer.zeroGrad()
}
if (workerData.leave) {
  parentPort.postMessage('working')
  if (workerData.leave === 'exit') process.exit(0)
  await new Promise(() => setInterval(() => {}, 1000))
}
const hash = createHash('sha256')
for (const p of layer.parameters()) hash.update(new Uint8Array((await p.value.data()).buffer))
parentPort.postMessage(hash.digest('hex'))

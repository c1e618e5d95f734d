// Two workers and the main thread train at once; a third worker is terminated while it trains,
// unless the argument is `calm`. Prints whether all computed the same bits.

import { createHash } from 'node:crypto'
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads'
import { AdamW, MemoryLayer, openDevice } from 'memory-layers'

async function train(steps) {
  const device = openDevice('cpu', { threads: 2 })
  const layer = new MemoryLayer(device, {
    inputDim: 32,
    heads: 2,
    knn: 8,
    nKeys: 32,
    keyDim: 16,
    seed: 1,
  })
  const optimizer = new AdamW(layer.parameters(), { lr: 1e-2 })
  for (let step = 0; step < steps; step++) {
    const { context } = layer.forward(device.normal([64, 32], { seed: step }))
    layer.backward(context, device.normal([64, 32], { seed: 1000 + step }))
    optimizer.step()
    optimizer.zeroGrad()
  }
  const hash = createHash('sha256')
  for (const p of layer.parameters()) hash.update(new Uint8Array((await p.value.data()).buffer))
  return hash.digest('hex')
}

function inWorker(steps) {
  const worker = new Worker(new URL(import.meta.url), { workerData: steps })
  const answer = new Promise((resolve, reject) =>
    worker.once('message', resolve).once('error', reject),
  )
  return { worker, answer }
}

if (isMainThread) {
  const third = process.argv[2] === 'calm' ? undefined : inWorker(100_000)
  const digests = await Promise.all([train(10), inWorker(10).answer, inWorker(10).answer])
  await third?.worker.terminate()
  console.log(JSON.stringify({ same: new Set(digests).size === 1 }))
} else {
  parentPort.postMessage(await train(workerData))
}

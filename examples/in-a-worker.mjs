// A layer in a worker thread: the main thread sends tokens and gets outputs, and stays free for
// everything else. Each thread opens a device of its own; memory of one thread is not seen by
// another, so parameters travel by file or message.
//
//   node examples/in-a-worker.mjs

import { isMainThread, parentPort, Worker } from 'node:worker_threads'
import { MemoryLayer, openDevice } from 'memory-layers'

const dim = 32

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url))
  const ask = (x) =>
    new Promise((resolve, reject) => {
      worker.once('message', resolve).once('error', reject)
      worker.postMessage(x, [x.buffer])
    })

  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  for (const tokens of [1, 16, 256]) {
    const y = await ask(Float32Array.from({ length: tokens * dim }, (_, i) => Math.cos(i)))
    console.log(`${tokens} tokens in, ${y.length / dim} out`)
  }
  clearInterval(timer)
  console.log(`the main thread went on meanwhile: ${ticks > 0}`)
  await worker.terminate()
} else {
  const layer = new MemoryLayer(openDevice('cpu', { threads: 1 }), {
    inputDim: dim,
    heads: 2,
    knn: 8,
    nKeys: 64,
    keyDim: 32,
    seed: 1,
  })
  parentPort.on('message', async (x) => {
    const y = layer.infer(x)
    const data = await y.data()
    y.dispose()
    parentPort.postMessage(data, [data.buffer])
  })
}

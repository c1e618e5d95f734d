// Three layers read one table (Memory+, "Memory Layers at Scale"): its gradients merge, and each
// touched row is updated once a step.
//
//   npx tsx examples/share-a-table.ts

import {
  AdamW,
  clipGradNorm,
  MemoryLayer,
  openDevice,
  ops,
  type Tensor,
  ValueTable,
} from 'memory-layers'

const device = openDevice()
const dim = 32
const values = new ValueTable(device, { slots: 64 * 64, dim, init: { std: 0.1, seed: 1 } })
const layers = [2, 3, 4].map(
  (seed) =>
    new MemoryLayer(device, {
      inputDim: dim,
      heads: 2,
      knn: 8,
      nKeys: 64,
      keyDim: 32,
      values,
      seed,
    }),
)
const parameters = layers.flatMap((layer) => layer.parameters())
const optimizer = new AdamW(parameters, { lr: 2e-3, tableLr: 2e-2 })

const x = device.normal([128, dim], { seed: 5 })
const target = device.normal([128, dim], { seed: 6 })

for (let step = 1; step <= 120; step++) {
  // Residual: h = h + layer(h)
  let h: Tensor = x
  const contexts = layers.map((layer) => {
    const { output, context } = layer.forward(h)
    h = ops.add(h, output)
    return context
  })
  const error = ops.add(h, target, { beta: -1 })
  let dh = ops.add(error, error, { alpha: 1 / error.size, beta: 1 / error.size })
  for (const [i, layer] of [...layers.entries()].reverse())
    dh = ops.add(dh, layer.backward(contexts[i]!, dh))

  if (step === 1) {
    const { rows } = await values.gradient().data()
    const touched = `${rows.length} of ${values.slots} rows`
    console.log(`${values.pendingReads} reads are queued; together they touch ${touched}`)
  }
  const norm = clipGradNorm(parameters, 1)
  optimizer.step()
  optimizer.zeroGrad()
  if (step % 40 === 0) {
    const loss = (await error.data()).reduce((sum, v) => sum + v * v, 0) / error.size
    console.log(
      `step ${step}: loss ${loss.toFixed(4)}, gradient norm ${(await norm.data())[0]!.toFixed(3)}`,
    )
  }
}

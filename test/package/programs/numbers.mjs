// Prints { name: [values] } for every kind of operation, to compare one processor with another.

import * as ml from 'memory-layers'
import { Linear, RmsNorm } from 'memory-layers/nn'

const { ops } = ml
const device = ml.openDevice('cpu', { threads: 2 })
const numbers = { description: device.description }
const normal = (shape, seed, dtype) => device.normal(shape, { seed, dtype })
const note = async (name, tensor) => {
  numbers[name] = [...(await tensor.data())]
}

for (const dtype of ['float32', 'float16', 'bfloat16']) {
  await note(`rounding to ${dtype}`, normal([33], 1, dtype))
  const table = normal([50, 19], 2, dtype)
  const indices = device.tensor(
    Int32Array.from({ length: 28 }, (_, i) => (i * 17) % 50),
    [7, 4],
  )
  const weights = normal([7, 4], 3)
  await note(`embeddingBag ${dtype}`, ops.embeddingBag(table, indices, weights))
  const { dWeights, dTable } = ops.embeddingBagBackward(normal([7, 19], 4), table, indices, weights)
  await note(`embeddingBagBackward weights ${dtype}`, dWeights)
  numbers[`embeddingBagBackward table ${dtype}`] = [...(await dTable.data()).values]
}

const top = ops.topK(normal([5, 101], 5), 9)
await note('topK values', top.values)
await note('topK indices', top.indices)
const query = normal([9, 2, 2, 12], 6)
const keys = normal([2, 2, 21, 12], 7)
await note('productKeyScores', ops.productKeyScores(query, keys))
for (const gate of ['softmax', 'relu', 'sigmoid', 'none']) {
  const lookup = ops.productKeyLookup(query, keys, { knn: 7, gate })
  await note(`productKeyLookup ${gate} indices`, lookup.indices)
  await note(`productKeyLookup ${gate} weights`, lookup.weights)
  const { dQuery, dKeys } = ops.productKeyLookupBackward(lookup, normal([9, 2, 7], 8), {
    query,
    keys,
  })
  await note(`productKeyLookupBackward ${gate} query`, dQuery)
  await note(`productKeyLookupBackward ${gate} keys`, dKeys)
}
for (const name of ['relu', 'gelu', 'silu', 'sigmoid', 'softmax'])
  await note(name, ops[name](normal([6, 37], 9)))

const options = { inputDim: 20, heads: 2, knn: 5, nKeys: 13, keyDim: 12, seed: 3 }
for (const Optimizer of [ml.Sgd, ml.Adagrad, ml.RowwiseAdagrad, ml.AdamW]) {
  const norm = new RmsNorm(device, { dim: 20 })
  const linear = new Linear(device, { inputDim: 20, outputDim: 20, seed: 4 })
  const layer = new ml.MemoryLayer(device, { ...options, gate: 'silu', queryNorm: 'rms' })
  const parameters = [...norm.parameters(), ...linear.parameters(), ...layer.parameters()]
  const optimizer = new Optimizer(parameters, { lr: 1e-2, weightDecay: 1e-2 })
  for (let step = 0; step < 3; step++) {
    const a = norm.forward(normal([24, 20], 10 + step))
    const b = layer.forward(a.output)
    const c = linear.forward(b.output)
    norm.backward(a.context, layer.backward(b.context, linear.backward(c.context, c.output)))
    optimizer.step()
    optimizer.zeroGrad()
    await note(`${Optimizer.name} output ${step}`, c.output)
  }
  for (const p of parameters)
    if (p.value.size < 6000) await note(`${Optimizer.name} ${p.name}`, p.value)
}
const peer = new ml.PeerLayer(device, {
  inputDim: 20,
  heads: 2,
  knn: 4,
  nKeys: 11,
  keyDim: 8,
  seed: 5,
})
const { output, context } = peer.forward(normal([10, 20], 20))
await note('PeerLayer', output)
await note('PeerLayer backward', peer.backward(context, output))

console.log(JSON.stringify(numbers))

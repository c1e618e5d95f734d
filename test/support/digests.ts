// Prints a digest of what each operation gives on the emulated device, as JSON: node --import tsx
// test/support/digests.ts The order in which the emulator runs threads, and how many
// multiprocessors it has, come from MEMORY_LAYERS_SIMT.

import { createHash } from 'node:crypto'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  MemoryLayer,
  openDevice,
  ops,
  PeerLayer,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
} from '../../lib/index.js'
import { integers, randomTensor } from './random.js'

const device = openDevice('simt')
const digests: Record<string, string> = {}

async function note(name: string, ...tensors: Tensor[]): Promise<void> {
  const hash = createHash('sha256')
  for (const t of tensors) {
    const data = await t.data()
    hash.update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength))
  }
  digests[name] = hash.digest('hex')
}

// Bags with a hot row, so that its gradient is split.
const [tokens, size, slots, dim] = [150, 8, 40, 33] as const
const places = integers(tokens * size, -1, slots, 1).map((i, at) => (at % 2 === 0 ? 7 : i))
const table = randomTensor(device, [slots, dim], 2).tensor
const indices = device.tensor(places, [tokens, size])
const weights = randomTensor(device, [tokens, size], 3).tensor
const dy = randomTensor(device, [tokens, dim], 4).tensor
await note('embeddingBag', ops.embeddingBag(table, indices, weights))
const few = ops.embeddingBag(
  randomTensor(device, [slots, 260], 2).tensor,
  indices.rows(0, 2),
  weights.rows(0, 2),
)
await note('embeddingBag of few tokens', few)
const { dWeights, dTable } = ops.embeddingBagBackward(dy, table, indices, weights)
await note('embeddingBagBackward, weights', dWeights!)
const { rows, values } = await dTable!.data()
await note('embeddingBagBackward, table', device.tensor(rows), device.tensor(values))

const x = randomTensor(device, [70, 48], 5).tensor
const weight = randomTensor(device, [37, 48], 6).tensor
await note('linear', ops.linear(x, weight))
const back = ops.linearBackward(randomTensor(device, [70, 37], 7).tensor, x, weight)
await note('linearBackward', back.dx, back.dWeight, back.dBias!)
const lookup = ops.productKeyLookup(
  randomTensor(device, [20, 2, 2, 16], 8).tensor,
  randomTensor(device, [2, 2, 90, 16], 9).tensor,
  { knn: 12 },
)
await note('productKeyLookup', lookup.indices, lookup.scores, lookup.weights)
const top = ops.topK(randomTensor(device, [5, 700], 10).tensor, 40)
await note('topK', top.values, top.indices)

for (const [name, make] of [
  ['Sgd', (p) => new Sgd(p, { lr: 0.1 })],
  ['Adagrad', (p) => new Adagrad(p, { lr: 0.1 })],
  ['RowwiseAdagrad', (p) => new RowwiseAdagrad(p, { lr: 0.1 })],
  ['AdamW', (p) => new AdamW(p, { lr: 0.1 })],
] as [string, (p: MemoryLayer['parameters'] extends () => infer P ? P : never) => Sgd][]) {
  const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 6, keyDim: 8, seed: 1 }
  const memory = new MemoryLayer(device, { ...options, outputGate: true, queryNorm: 'rms' })
  const peer = new PeerLayer(device, options)
  const parameters = [...memory.parameters(), ...peer.parameters()]
  const optimizer = make(parameters)
  for (let step = 0; step < 2; step++) {
    const input = device.normal([24, 16], { seed: step })
    const { output, context } = memory.forward(input)
    const second = peer.forward(output)
    memory.backward(context, peer.backward(second.context, second.output))
    clipGradNorm(parameters, 1)
    optimizer.step()
    optimizer.zeroGrad()
  }
  await note(`training with ${name}`, ...parameters.map((p) => p.value))
}

console.log(JSON.stringify(digests))

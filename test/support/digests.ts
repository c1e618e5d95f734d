// Prints a digest of what each operation gives on the emulated device, as JSON:
//   node --import tsx test/support/digests.ts
// MEMORY_LAYERS_SIMT sets the order in which the emulator runs threads, and its multiprocessors.

import { createHash } from 'node:crypto'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  MemoryLayer,
  type Optimizer,
  openDevice,
  ops,
  type Parameter,
  PeerLayer,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
} from '../../lib/index.js'
import { Embedding } from '../../lib/nn/index.js'
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

// Bags with a hot row, whose gradient is a sum of chunks.
const [tokens, size, slots, dim] = [150, 8, 40, 33] as const
const entries = integers(tokens * size, -1, slots, 1).map((index, e) => (e % 2 === 0 ? 7 : index))
const indices = device.tensor(entries, [tokens, size])
const table = randomTensor(device, [slots, dim], 2).tensor
const weights = randomTensor(device, [tokens, size], 3).tensor
const dy = randomTensor(device, [tokens, dim], 4).tensor
await note('embeddingBag', ops.embeddingBag(table, indices, weights))
const wide = randomTensor(device, [slots, 260], 2).tensor
await note(
  'embeddingBag of two tokens',
  ops.embeddingBag(wide, indices.rows(0, 2), weights.rows(0, 2)),
)
const { dWeights, dTable } = ops.embeddingBagBackward(dy, table, indices, weights)
await note('embeddingBagBackward, weights', dWeights)
const { rows, values } = await dTable.data()
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

const sequence = randomTensor(device, [2, 90, 40], 11).tensor
const taps = randomTensor(device, [40, 3], 12).tensor
await note('rope', ops.rope(sequence.reshape([2, 90, 2, 20])))
await note('multinomial', ops.multinomial(sequence, { topK: 20, topP: 0.9, samples: 3 }))
await note('permute', ops.permute(sequence, [0, 2, 1]))
await note('causalConv1d', ops.causalConv1d(sequence, taps))
const conv = ops.causalConv1dBackward(sequence, sequence, taps)
await note('causalConv1dBackward', conv.dx!, conv.dWeight!, conv.dBias!)
const norm = ops.layerNormBackward(
  sequence,
  sequence,
  sequence.rows(0, 1).reshape([3600]).rows(0, 40),
)
await note('layerNormBackward', norm.dx!, norm.dWeight!, norm.dBias!)

const optimizers: Record<string, (p: readonly Parameter[]) => Optimizer> = {
  Sgd: (p) => new Sgd(p, { lr: 0.1 }),
  Adagrad: (p) => new Adagrad(p, { lr: 0.1 }),
  RowwiseAdagrad: (p) => new RowwiseAdagrad(p, { lr: 0.1 }),
  AdamW: (p) => new AdamW(p, { lr: 0.1 }),
}
for (const [name, make] of Object.entries(optimizers)) {
  const options = { inputDim: 16, heads: 2, knn: 4, nKeys: 6, keyDim: 8, seed: 1 }
  const memory = new MemoryLayer(device, { ...options, outputGate: true, queryNorm: 'rms' })
  const peer = new PeerLayer(device, options)
  const parameters = [...memory.parameters(), ...peer.parameters()]
  const optimizer = make(parameters)
  for (let step = 0; step < 2; step++) {
    const input = device.normal([24, 16], { seed: step })
    const first = memory.forward(input)
    const second = peer.forward(first.output)
    memory.backward(first.context, peer.backward(second.context, second.output))
    clipGradNorm(parameters, 1)
    optimizer.step()
    optimizer.zeroGrad()
  }
  await note(`training with ${name}`, ...parameters.map((p) => p.value))
}

// A table whose rows are visited by their tokens.
const embedding = new Embedding(device, { count: slots, dim: 1000, seed: 1 })
const read = embedding.forward(indices.rows(0, 150).reshape([1200]))
embedding.backward(read.context, randomTensor(device, [1200, 1000], 13).tensor)
new RowwiseAdagrad(embedding.parameters(), { lr: 0.1 }).step()
await note('RowwiseAdagrad, 1000 wide', embedding.table.weight)

console.log(JSON.stringify(digests))

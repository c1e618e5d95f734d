// One rank of test/distributed/traffic.test.ts: one step of training; writes what it has sent.

import { initDistributed } from '../../../lib/distributed/index.js'
import { AdamW, openDevice } from '../../../lib/index.js'
import { fit, TextDataset, Transformer, type TransformerOptions } from '../../../lib/nn/index.js'
import { report } from './result.js'

const { columns, options } = JSON.parse(process.argv[2] ?? '{}') as {
  columns: number
  options: TransformerOptions
}
const world = await initDistributed()
const group = await world.split({ color: Math.floor(world.rank / columns) })
const device = openDevice('cpu', { threads: 1 })
const model = new Transformer(device, { ...options, seed: 1, world: group })
const { contextLength } = options
const tokens = Array.from({ length: 400 }, (_, i) => (i * i) % options.vocabSize)
const data = new TextDataset(tokens, { device, contextLength, batchSize: 2, world })
const optimizer = new AdamW(model.parameters(), { lr: 1e-3 })
await fit(model, data, { optimizer, steps: 1, world })
const sent = (of: typeof world) =>
  Object.fromEntries(Object.entries(of.traffic()).map(([name, { sent }]) => [name, sent]))
const result = { world: sent(world), columns: sent(group) }
report(world.rank, result)
await world.close()

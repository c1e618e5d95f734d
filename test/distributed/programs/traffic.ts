// One rank of test/distributed/traffic.test.ts: one step of training; writes what it has sent.

import { initDistributed } from '../../../lib/distributed/index.js'
import { AdamW, openDevice } from '../../../lib/index.js'
import { fit, TextDataset, Transformer, type TransformerOptions } from '../../../lib/nn/index.js'
import { World } from '../../../lib/world.js'
import { report } from './result.js'

const { columns, options } = JSON.parse(process.argv[2] ?? '{}') as {
  columns: number
  options: TransformerOptions
}
const world = await initDistributed()
const groups: World[] = []
const { split } = World.prototype
World.prototype.split = async function (options) {
  const group = await split.call(this, options)
  groups.push(group)
  return group
}
const group = await world.split({ color: Math.floor(world.rank / columns) })
const device = openDevice('cpu', { threads: 1 })
const model = new Transformer(device, { ...options, seed: 1, world: group })
const { contextLength } = options
const tokens = Array.from({ length: 400 }, (_, i) => (i * i) % options.vocabSize)
const data = new TextDataset(tokens, { device, contextLength, batchSize: 2, world })
const optimizer = new AdamW(model.parameters(), { lr: 1e-3 })
await fit(model, data, { optimizer, steps: 1, clip: 1, world })
/** By collective; and by rank of the world without what went between hosts. */
function sent(of: World): { calls: Record<string, number>; to: number[] } {
  const calls = Object.fromEntries(Object.entries(of.traffic()).map(([name, t]) => [name, t.sent]))
  const to = new Array<number>(world.size).fill(0)
  const hosts = (calls['exchange'] ?? 0) / Math.max(1, of.size - 1)
  for (const [r, rank] of of.ranksIn(world).entries())
    if (rank !== world.rank) to[rank] = of.sentTo()[r]! - hosts
  return { calls, to }
}
const replicas = groups[1] && sent(groups[1])
report(world.rank, { rank: world.rank, world: sent(world), columns: sent(group), replicas })
await world.close()

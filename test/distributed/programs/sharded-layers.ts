// One rank of test/distributed/sharding.test.ts: layers on divided tables beside the same layers on
// whole ones, which read the tokens of all ranks. Writes what it found as JSON.

import { setTimeout } from 'node:timers/promises'
import { initDistributed } from '../../../lib/distributed/index.js'
import { MemoryLayer, openDevice, PeerLayer, Sgd, ValueTable } from '../../../lib/index.js'
import { clipGradNorm } from '../../../lib/optim.js'
import type { Tensor } from '../../../lib/tensor.js'
import { refusal, report } from './result.js'

const { kind } = JSON.parse(process.argv[2] ?? '{}') as { kind: 'cpu' | 'simt' }
const world = await initDistributed()
const { rank, size } = world
const device = openDevice(kind, kind === 'cpu' ? { threads: 1 } : {})
const shard = { group: world, by: 'columns' } as const

// uneven; of three and more the second has none
const counts = Array.from({ length: size }, (_, r) => (r === 1 && size > 2 ? 0 : 3 + 2 * r))
const total = counts.reduce((a, b) => a + b, 0)
const begin = counts.slice(0, rank).reduce((a, b) => a + b, 0)
const mine = <T extends Tensor>(all: T) => all.rows(begin, begin + counts[rank]!) as T

await world.shareTokens(counts[rank]!)

const nKeys = 16
const slots = nKeys * nKeys
const inputDim = 24

async function same(a: Tensor, b: Tensor): Promise<boolean> {
  const [x, y] = [Buffer.from((await a.data()).buffer), Buffer.from((await b.data()).buffer)]
  return x.equals(y)
}

/** The largest difference, relative to the largest number. */
async function difference(a: Tensor, b: Tensor): Promise<number> {
  const [x, y] = [Array.from(await a.data()), Array.from(await b.data())]
  if (x.length !== y.length) return Infinity
  const largest = y.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-30)
  return x.reduce((m, v, i) => Math.max(m, Math.abs(v - y[i]!)), 0) / largest
}

async function tableDifference(table: ValueTable, whole: ValueTable): Promise<number> {
  const [begin, end] = [table.shard!.begin, table.shard!.end]
  const [own, all] = [table.gradient().toDense(), whole.gradient().toDense()]
  const [x, y] = [await own.data(), await all.data()]
  const largest = y.reduce((m, v) => Math.max(m, Math.abs(v)), 1e-30)
  let worst = 0
  for (let row = 0; row < table.slots; row++)
    for (let c = begin; c < end; c++) {
      const d = x[row * (end - begin) + c - begin]! - y[row * table.dim + c]!
      worst = Math.max(worst, Math.abs(d))
    }
  return worst / largest
}

const results: Record<string, unknown> = { rank, counts }
const x = device.normal([total, inputDim], { seed: 5 })
const dy = device.normal([total, inputDim], { seed: 6 })

async function memory(name: string, options: object, valueDim: number): Promise<void> {
  const init = { std: 0.3, seed: 9 }
  const whole = new ValueTable(device, { slots, dim: valueDim, init })
  const values = new ValueTable(device, { slots, dim: valueDim, init, shard })
  const common = { inputDim, heads: 2, knn: 4, nKeys, keyDim: 16, seed: 3, ...options }
  const reference = new MemoryLayer(device, { ...common, values: whole })
  const layer = new MemoryLayer(device, { ...common, values })
  const before = world.traffic()
  const expected = reference.forward(x)
  const found = layer.forward(mine(x))
  const output = reference.infer(mine(x))
  const result: Record<string, unknown> = {
    output: await same(found.output, output),
    infer: await same(layer.infer(mine(x)), output),
    tokens: await difference(output, mine(expected.output)),
  }
  const afterForward = world.traffic()
  const dx = reference.backward(expected.context, dy)
  const own = layer.backward(found.context, mine(dy))
  result.dx = await difference(own, mine(dx))
  result.table = await tableDifference(values, whole)
  // dense gradients are sums over tokens: those of the ranks add up to the whole's
  for (const [i, p] of layer.parameters().entries()) {
    if (p.kind !== 'dense') continue
    const sum = p.grad.to('float32')
    world.allReduce(sum)
    result[p.name] = await difference(sum, (reference.parameters()[i] as typeof p).grad)
  }
  result.sent = sentSince(before, afterForward)
  // clipping and a step: what the ranks have together is what the whole has
  const norms = [clipGradNorm(layer.parameters().slice(-1), 0.5), undefined]
  norms[1] = clipGradNorm(reference.parameters().slice(-1), 0.5)
  result.norm = await difference(norms[0]!, norms[1])
  const optimizers = [layer, reference].map((l) => new Sgd(l.parameters().slice(-1), { lr: 1 }))
  for (const optimizer of optimizers) optimizer.step()
  const columns = new ValueTable(device, { slots, dim: valueDim, init, shard })
  columns.load(whole.weight)
  result.step = await difference(values.weight, columns.weight)
  results[name] = result
}

function sentSince(
  before: Record<string, { sent: number }>,
  after: Record<string, { sent: number }>,
): Record<string, number> {
  return Object.fromEntries(
    Object.entries(after).map(([name, { sent }]) => [name, sent - (before[name]?.sent ?? 0)]),
  )
}

await memory('memory', { outputGate: true }, 37)
await memory('plain', { gate: 'none' }, inputDim)

async function peer(): Promise<void> {
  const table = (seed: number, division: object) =>
    new ValueTable(device, { slots, dim: inputDim, init: { std: 0.3, seed }, ...division })
  const common = { inputDim, heads: 2, knn: 4, nKeys, keyDim: 16, seed: 4 }
  const [down, up] = [table(1, {}), table(2, {})]
  const [ownDown, ownUp] = [table(1, { shard }), table(2, { shard })]
  const reference = new PeerLayer(device, { ...common, down, up })
  const layer = new PeerLayer(device, { ...common, down: ownDown, up: ownUp })
  const before = world.traffic()
  const expected = reference.forward(x)
  const found = layer.forward(mine(x))
  const dx = reference.backward(expected.context, dy)
  const own = layer.backward(found.context, mine(dy))
  results.peer = {
    sent: sentSince(before, world.traffic()),
    output: await difference(found.output, mine(expected.output)),
    dx: await difference(own, mine(dx)),
    down: await tableDifference(ownDown, down),
    up: await tableDifference(ownUp, up),
  }
}

/** What the calls of a layer take while the last rank has not made them yet. */
async function late(): Promise<void> {
  const values = new ValueTable(device, { slots, dim: inputDim, init: { std: 1, seed: 1 }, shard })
  const layer = new MemoryLayer(device, { inputDim, knn: 4, nKeys, keyDim: 16, seed: 3, values })
  await world.barrier()
  if (rank === size - 1) await setTimeout(1000)
  const begin = performance.now()
  const { output, context } = layer.forward(mine(x))
  layer.backward(context, output)
  const y = layer.infer(mine(x))
  results.blocked = performance.now() - begin
  await y.data()
  results.waited = performance.now() - begin
}

/** Numbers of tokens that were not told, or are others than those. */
async function untold(): Promise<void> {
  const values = new ValueTable(device, { slots, dim: inputDim, init: { std: 1, seed: 1 }, shard })
  const layer = new MemoryLayer(device, { inputDim, knn: 4, nKeys, keyDim: 16, seed: 3, values })
  const uneven = device.zeros([counts[rank]! + 1 + rank, inputDim])
  results.other = await refusal(async () => layer.infer(uneven))
  await world.shareTokens(3)
  results.none = await refusal(async () => layer.infer(device.zeros([0, inputDim])))
  results.untold = await refusal(() => layer.infer(uneven).data())
  results.equal = await refusal(() => layer.infer(device.zeros([5, inputDim])).data())
}

await peer()
await late()
await untold()
report(rank, results)
await world.close()

// One rank of test/distributed/patches.test.ts: a divided table that is tracked, beside a whole one
// that is written alike. Writes what it found as JSON.

import { initDistributed } from '../../../lib/distributed/index.js'
import { openDevice, RowPatch, Sgd, ValueTable } from '../../../lib/index.js'
import { tableParameter } from '../../../lib/parameter.js'
import { refusal, report } from './result.js'

const { kind, dtype, path } = JSON.parse(process.argv[2] ?? '{}') as {
  kind: 'cpu' | 'simt'
  dtype: 'float32' | 'bfloat16' | 'float16'
  path: string
}
const world = await initDistributed()
const { rank, size } = world
const device = openDevice(kind, kind === 'cpu' ? { threads: 1 } : {})
const [slots, dim] = [40, 7]
const init = { std: 1, seed: 1 }
const newTable = (shard: object) => new ValueTable(device, { slots, dim, dtype, init, ...shard })
const divided = newTable({ shard: { group: world, by: 'columns' } })
const whole = newTable({})
const { begin, end } = divided.shard!
const optimizers = [divided, whole].map((t) => new Sgd([tableParameter('values', t)], { lr: 0.01 }))

/** A step that changes rows; the columns of a divided table get the gradients that they have. */
async function train(rows: number[], seed: number): Promise<void> {
  const indices = device.tensor(Int32Array.from(rows), [rows.length, 1])
  const weights = device.tensor(new Float32Array(rows.length).fill(1), [rows.length, 1])
  const dy = device.normal([rows.length, dim], { seed })
  const numbers = Array.from(await dy.data())
  const own = numbers.filter((_, i) => i % dim >= begin && i % dim < end)
  divided.queue(indices, weights, device.tensor(own, [rows.length, end - begin]))
  whole.queue(indices, weights, dy)
  for (const optimizer of optimizers) {
    optimizer.step()
    optimizer.zeroGrad()
  }
}

const bitsOf = async (t: ValueTable) => Buffer.from((await t.weight.bits()).buffer).toString('hex')
const columns = newTable({ shard: { group: world, by: 'columns' } })
/** Whether the divided table has the columns of the whole one. */
async function equal(): Promise<boolean> {
  columns.load(whole.weight)
  return (await bitsOf(columns)) === (await bitsOf(divided))
}

const partsOf = ({ rows, before, after }: RowPatch) =>
  [rows, before.bits, before.exact, after.bits, after.exact].map((bytes) =>
    bytes ? Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex') : '',
  )
const same = (a: RowPatch, b: RowPatch) => String(partsOf(a)) === String(partsOf(b))

const results: Record<string, unknown> = {}
await train([0, 3, 39], 1)
for (const table of [divided, whole]) table.track()
const none = await divided.diff()
results.nothing = same(none, await whole.diff())
await train([5, 3, 17], 2)
await train([38, 3], 3)
const [patch, expected] = [await divided.diff(), await whole.diff()]
results.rows = [...patch.rows]
results.patch = same(patch, expected)
if (rank === 0) await patch.save(path)
await world.barrier()
const loaded = await RowPatch.load(path)
results.loaded = same(loaded, expected)
await divided.revert(loaded)
await whole.revert(loaded)
results.reverted = await equal()
await divided.revert(loaded) // done already
results.again = await equal()
await divided.apply(expected)
await whole.apply(expected)
results.applied = await equal()

// Rows of one rank are others: all refuse, and nothing is written.
const last = rank === size - 1
const writeRow = (row: number) =>
  last && divided.weight.rows(row, row + 1).write(new Float32Array(end - begin).fill(3))
writeRow(17)
const before = await bitsOf(divided)
results.conflict = await refusal(() => divided.revert(patch))
results.otherPatch = await refusal(() => divided.revert(last ? patch : none))
results.untouched = (await bitsOf(divided)) === before
if (last) divided.untrack()
results.untracked = await refusal(() => divided.diff())
divided.track()
writeRow(2)
results.otherRows = await refusal(() => divided.diff())
results.step = await refusal(() => divided.apply(none))
report(rank, { rank, ...results })
await world.close()

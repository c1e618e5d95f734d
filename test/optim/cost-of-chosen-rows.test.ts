// What sparse memory finetuning costs does not grow with the table: chosen rows of a step, the
// journal of a tracked table, its diff, and ranked slots.

import { expect, test } from 'vitest'
import { openDevice, rankSlots, Sgd, SlotCounter, ValueTable } from '../../lib/index.js'
import { integers } from '../support/random.js'
import { parametersOf, queueRows } from '../support/table-reads.js'

const reads = 4000
const sizes = [1 << 17, 1 << 21] // tables of 8 and 128 MiB, neither of which a cache holds

test('16 times the rows take about as long', { timeout: 60_000 }, async () => {
  const device = openDevice('cpu')
  const cases = sizes.map((slots) => {
    const table = new ValueTable(device, { slots, dim: 16 })
    const rows = [...integers(reads, 0, slots, 7)]
    const counter = new SlotCounter(device, { slots })
    table.track()
    return { table, rows, counter, optimizer: new Sgd(parametersOf(table), { lr: 0.1 }) }
  })
  const steps = { step: [1e9, 1e9], diff: [1e9, 1e9], rank: [1e9, 1e9] }
  const time = async (name: keyof typeof steps, i: number, body: () => unknown) => {
    await device.synchronize()
    const start = performance.now()
    await body()
    await device.synchronize()
    steps[name][i] = Math.min(steps[name][i]!, performance.now() - start)
  }
  for (let round = 0; round < 15; round++)
    for (const [i, { table, rows, counter, optimizer }] of cases.entries()) {
      queueRows(table, rows, round)
      await time('step', i, () => optimizer.step({ rows: rows.slice(0, 2000) }))
      optimizer.zeroGrad()
      await time('diff', i, () => table.diff())
      await time('rank', i, () => {
        counter.add(device.tensor(Int32Array.from(rows)))
        return rankSlots(counter, { background: counter, top: 100 })
      })
    }
  // A cost that grew with the table would be 16 times as much.
  for (const [small, large] of Object.values(steps)) expect(large! / small!).toBeLessThan(3)
  for (const { table, counter, optimizer } of cases)
    for (const owner of [table, counter, optimizer]) owner.dispose()
})

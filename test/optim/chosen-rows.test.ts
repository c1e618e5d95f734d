// optimizer.step({ rows }): the chosen rows are updated as by any step, and nothing else is.

import { describe, expect, test } from 'vitest'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  type Device,
  MemoryLayer,
  type Optimizer,
  type ops,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
  type StateDict,
  ValueTable,
} from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { accumulate, small } from '../support/optimizer.js'
import { parametersOf, queueRows } from '../support/table-reads.js'

type Indices = ops.Indices

const slots = 40
const dim = 20 // no multiple of a vector
const touched = [1, 2, 5, 7, 8, 20, 38]
const chosen = [38, 3, 5, -1, 5, 1]
const updated = [1, 5, 38]

const optimizers: Record<string, (p: readonly Parameter[]) => Optimizer> = {
  Sgd: (p) => new Sgd(p, { lr: 0.01, weightDecay: 0.1 }),
  Adagrad: (p) => new Adagrad(p, { lr: 0.01 }),
  RowwiseAdagrad: (p) => new RowwiseAdagrad(p, { lr: 0.01, weightDecay: 0.1 }),
  AdamW: (p) => new AdamW(p, { lr: 0.01 }),
}

function newTable(device: Device, dtype: 'float32' | 'bfloat16' | 'float16', seed = 1) {
  return new ValueTable(device, { slots, dim, dtype, init: { std: 1, seed } })
}

/** All states as bits. */
async function bitsOf(state: StateDict): Promise<Record<string, string>> {
  const entries = Object.entries(state).map(async ([name, tensor]) => {
    const { buffer } = (await tensor.bits()) as Uint8Array
    return [name, Buffer.from(buffer).toString('hex')] as const
  })
  return Object.fromEntries(await Promise.all(entries))
}

/** The bits of each row of a table and of what belongs to it. */
async function rowBits(table: ValueTable, optimizer: Optimizer): Promise<string[]> {
  const states = { weight: table.weight, ...optimizer.stateDict() }
  const bits = await bitsOf(states)
  return Array.from({ length: slots }, (_, row) =>
    Object.entries(states)
      .filter(([, tensor]) => tensor.shape[0] === slots)
      .map(([name]) => {
        const length = bits[name]!.length / slots
        return bits[name]!.slice(row * length, (row + 1) * length)
      })
      .join(),
  )
}

onEveryDevice((device) => {
  describe.each(Object.keys(optimizers))('%s', (name) => {
    test.each(['float32', 'bfloat16', 'float16'] as const)('of a %s table', async (dtype) => {
      const [a, b] = [newTable(device, dtype), newTable(device, dtype)]
      const [of, all] = [a, b].map((table) => optimizers[name]!(parametersOf(table)))
      for (const seed of [1, 2]) {
        const before = await rowBits(a, of!)
        const other = await rowBits(b, all!)
        expect(updated.map((row) => before[row])).toEqual(updated.map((row) => other[row]))
        for (const table of [a, b]) queueRows(table, touched, seed)
        of!.step({ rows: seed === 1 ? chosen : device.tensor(Int32Array.from(chosen), [2, 3]) })
        all!.step()
        const after = await rowBits(a, of!)
        const whole = await rowBits(b, all!)
        for (const [row, bits] of after.entries()) {
          if (updated.includes(row)) {
            expect(bits).toBe(whole[row])
            expect(bits).not.toBe(before[row])
          } else expect(bits).toBe(before[row])
        }
        of!.zeroGrad()
        all!.zeroGrad()
      }
    })
  })

  test('dense parameters and their moments keep every bit; the step counts', async () => {
    using layer = new MemoryLayer(device, small)
    using optimizer = new AdamW(layer.parameters(), { lr: 0.01 })
    accumulate(layer, 1)
    optimizer.step()
    optimizer.zeroGrad()
    const { 'values.weight': _, ...dense } = layer.stateDict()
    const before = await bitsOf({ ...dense, ...optimizer.stateDict() })
    accumulate(layer, 2)
    const { rows } = await layer.values.gradient().data()
    const old = await layer.values.weight.data()
    optimizer.step({ rows: rows.subarray(0, 1) })
    const after = await bitsOf({ ...dense, ...optimizer.stateDict() })
    const changed = Object.keys(after).filter((name) => after[name] !== before[name])
    expect(changed.sort()).toEqual(
      Object.keys(after)
        .filter((n) => /values.weight|^step$/.test(n))
        .sort(),
    )
    const now = await layer.values.weight.data()
    const width = layer.values.dim
    const rowsChanged = new Set(
      [...now.keys()].filter((i) => now[i] !== old[i]).map((i) => Math.floor(i / width)),
    )
    expect([...rowsChanged]).toEqual([rows[0]])
  })

  test('several tables take a Map; a table without rows stays', async () => {
    const tables = [1, 2, 3].map((seed) => newTable(device, 'float32', seed))
    const [a, b, c] = tables as [ValueTable, ValueTable, ValueTable]
    using optimizer = new Sgd(parametersOf(a, b, c), { lr: 0.1 })
    const before = await Promise.all(tables.map((t) => rowBits(t, optimizer)))
    for (const table of tables) queueRows(table, touched, 4)
    const rows = new Map([[a, [1]]]).set(c, [2, 5])
    optimizer.step({ rows })
    const after = await Promise.all(tables.map((t) => rowBits(t, optimizer)))
    const changed = after.map((rows, t) =>
      [...rows.keys()].filter((row) => rows[row] !== before[t]![row]),
    )
    expect(changed).toEqual([[1], [], [2, 5]])
    await errorOf('ERR_VALUE', () => optimizer.step({ rows: [1] }))
    const stranger = newTable(device, 'float32')
    await errorOf('ERR_VALUE', () => optimizer.step({ rows: new Map([[stranger, [1]]]) }))
  })

  test('reads of layers that share a table meet, clipped by the norm of all', async () => {
    using values = new ValueTable(device, { slots: 64, dim: 12, init: { seed: 1 } })
    const layers = [1, 2].map((seed) => new MemoryLayer(device, { ...small, values, seed }))
    using twin = new ValueTable(device, { slots: 64, dim: 12, init: { seed: 1 } })
    const twins = [1, 2].map((seed) => new MemoryLayer(device, { ...small, values: twin, seed }))
    const parameters = [layers, twins].map((list) => list.flatMap((l) => l.parameters()))
    for (const list of [layers, twins]) for (const layer of list) accumulate(layer, 5)
    for (const list of parameters) clipGradNorm(list, 0.01)
    const optimizer = new Sgd(parameters[0]!, { lr: 1 })
    const { rows } = await values.gradient().data()
    optimizer.step({ rows: device.tensor(rows) })
    new Sgd(parameters[1]!, { lr: 1 }).step()
    expect(await values.weight.data()).toEqual(await twin.weight.data())
  })

  test('a row outside the table: nothing changes, moments and step neither', async () => {
    const [a, b] = [newTable(device, 'bfloat16'), newTable(device, 'float32')]
    using optimizer = new AdamW(parametersOf(a, b), { lr: 0.1 })
    const before = await bitsOf({ a: a.weight, b: b.weight, ...optimizer.stateDict() })
    for (const table of [a, b]) queueRows(table, touched, 4)
    const at = (rows: Indices) => new Map<ValueTable, Indices>([[a, [1, 2]]]).set(b, rows)
    const early = await errorOf('ERR_INDEX_RANGE', () => optimizer.step({ rows: at([3, 40]) }))
    expect(early).toContain('"rows"[1]')
    optimizer.step({ rows: at(device.tensor(Int32Array.of(1, 2, -2))) })
    const late = await errorOf('ERR_INDEX_RANGE', () => device.synchronize())
    expect(late).toContain('optimizer.step: "rows"[2] is -2, outside [0, 40)')
    expect(await bitsOf({ a: a.weight, b: b.weight, ...optimizer.stateDict() })).toEqual(before)
    optimizer.step({ rows: at([2]) })
    expect(await bitsOf({ a: a.weight, b: b.weight })).not.toEqual(before)
  })

  test('what is wrong is named', async () => {
    using table = newTable(device, 'float32')
    using optimizer = new Sgd(parametersOf(table), { lr: 0.1 })
    using dense = new AdamW(parametersOf(table), { lr: 0.1, tableMode: 'dense' })
    await errorOf('ERR_OPTION', () => optimizer.step({ row: [1] } as never))
    await errorOf('ERR_DTYPE', () => optimizer.step({ rows: 'all' as never }))
    await errorOf('ERR_DTYPE', () => optimizer.step({ rows: device.zeros([2]) }))
    await errorOf('ERR_INDEX_RANGE', () => optimizer.step({ rows: [0.5] }))
    await errorOf('ERR_UNSUPPORTED', () => dense.step({ rows: [1] }))
    const before = await table.weight.data()
    optimizer.step({ rows: [] })
    queueRows(table, touched, 1)
    optimizer.step({ rows: new Int32Array(0) })
    optimizer.step({ rows: [4] }) // which no read touched
    expect(await table.weight.data()).toEqual(before)
  })
})

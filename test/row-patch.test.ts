// table.track(), diff(), apply() and revert(): what changed, to the bit, and back.

import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  Adagrad,
  AdamW,
  type Device,
  MemoryLayer,
  MemoryLayersError,
  type Optimizer,
  ops,
  type Parameter,
  RowPatch,
  RowwiseAdagrad,
  readSafetensors,
  Sgd,
  saveSafetensors,
  ValueTable,
} from '../lib/index.js'
import { onEveryDevice } from './support/devices.js'
import { errorOf } from './support/errors.js'
import { faulty, reportAll } from './support/faults.js'
import { temporaryFolder } from './support/files.js'
import { accumulate, small } from './support/optimizer.js'
import { parametersOf, queueRows } from './support/table-reads.js'

const slots = 40
const dim = 7 // rows of 14 bytes in a 16-bit table

const optimizers: Record<string, (p: readonly Parameter[]) => Optimizer> = {
  Sgd: (p) => new Sgd(p, { lr: 0.01, weightDecay: 0.1 }),
  Adagrad: (p) => new Adagrad(p, { lr: 0.01 }),
  RowwiseAdagrad: (p) => new RowwiseAdagrad(p, { lr: 0.01, weightDecay: 0.1 }),
  AdamW: (p) => new AdamW(p, { lr: 0.01 }),
  'AdamW dense': (p) => new AdamW(p, { lr: 0.01, tableMode: 'dense' }),
}
const dtypes = ['float32', 'bfloat16', 'float16'] as const

function newTable(device: Device, dtype: (typeof dtypes)[number] = 'float32', width = dim) {
  return new ValueTable(device, { slots, dim: width, dtype, init: { std: 1, seed: 1 } })
}

function train(table: ValueTable, optimizer: Optimizer, seed: number, rows: readonly number[]) {
  queueRows(table, rows, seed)
  optimizer.step()
  optimizer.zeroGrad()
}

/** The bits of a table, of its exact values too if an optimizer trains it. */
async function bitsOf(table: ValueTable, optimizer?: Optimizer): Promise<string[]> {
  const masters = Object.entries(optimizer?.stateDict() ?? {}).filter(([n]) => /master$/.test(n))
  const tensors = [table.weight, ...masters.map(([, tensor]) => tensor)]
  const bits = tensors.map(async (t) => Buffer.from(((await t.bits()) as Uint8Array).buffer))
  return (await Promise.all(bits)).map((b) => b.toString('hex'))
}

onEveryDevice((device) => {
  describe.each(dtypes)('a %s table', (dtype) => {
    test.each(Object.keys(optimizers))('trained by %s goes back and forth', async (name) => {
      using table = newTable(device, dtype, name === 'Adagrad' ? 8 : dim)
      using optimizer = optimizers[name]!(parametersOf(table))
      train(table, optimizer, 1, [0, 3, 39])
      const before = await bitsOf(table, optimizer)
      table.track()
      train(table, optimizer, 2, [5, 3, 17])
      train(table, optimizer, 3, [3, 38])
      const patch = await table.diff()
      const all = Array.from({ length: slots }, (_, i) => i)
      const expected = name === 'AdamW dense' ? all : [3, 5, 17, 38]
      // Momenta without a gradient may be too small to move a row.
      if (name === 'AdamW dense') expect(patch.rows.length).toBeGreaterThan(3)
      else expect([...patch.rows]).toEqual(expected)
      const after = await bitsOf(table, optimizer)
      await table.revert(patch)
      expect(await bitsOf(table, optimizer)).toEqual(before)
      await table.revert(patch) // done already
      await table.apply(patch)
      expect(await bitsOf(table, optimizer)).toEqual(after)
    })

    test('saved and loaded, and written to a table that no optimizer trains', async () => {
      const folder = temporaryFolder()
      const path = join(folder, 'patch.safetensors')
      using table = newTable(device, dtype)
      using served = newTable(device, dtype)
      using optimizer = new AdamW(parametersOf(table), { lr: 0.01 })
      table.track()
      train(table, optimizer, 2, [5, 3, 17])
      const patch = await table.diff()
      await patch.save(path)
      const loaded = await RowPatch.load(path)
      expect(loaded).toEqual(patch)
      const [before] = await bitsOf(served)
      await served.apply(loaded)
      expect((await bitsOf(served))[0]).toBe((await bitsOf(table))[0])
      await served.revert(loaded)
      expect((await bitsOf(served))[0]).toBe(before)
      await table.revert(loaded)
      expect((await bitsOf(table))[0]).toBe(before)
    })

    test('a patch of no rows is saved, loaded, stacked and applied', async () => {
      const path = join(temporaryFolder(), 'patch.safetensors')
      using table = newTable(device, dtype)
      using optimizer = new Sgd(parametersOf(table), { lr: 0.01 })
      table.track()
      const none = await table.diff()
      expect(none.rows.length).toBe(0)
      await none.save(path)
      const loaded = await RowPatch.load(path)
      expect(loaded.byteLength).toBe(0)
      train(table, optimizer, 2, [5, 3])
      const some = await table.diff()
      expect(RowPatch.stack([none, some, loaded])).toEqual(some)
      await table.apply(loaded)
      expect(await table.diff()).toEqual(some)
    })

    test('what else writes to it is journaled, and no more', async () => {
      using table = newTable(device, dtype)
      using optimizer = new Sgd(parametersOf(table), { lr: 0.01 })
      train(table, optimizer, 1, [0, 3, 39])
      const before = await bitsOf(table, optimizer)
      table.track()
      table.weight.rows(4, 6).write(new Float32Array(2 * dim).fill(3))
      expect([...(await table.diff()).rows]).toEqual([4, 5])
      table.weight.rows(9, 10).copyFrom(device.zeros([1, dim]))
      expect([...(await table.diff()).rows]).toEqual([4, 5, 9])
      table.load(device.normal([slots, dim], { seed: 9 }))
      optimizer.loadStateDict(new Sgd(parametersOf(table), { lr: 1 }).stateDict())
      const patch = await table.diff()
      expect(patch.rows.length).toBe(slots)
      await table.revert(patch)
      expect(await bitsOf(table, optimizer)).toEqual(before)
    })
  })

  test('layers that share a table; chosen rows; more rows than fit at first', async () => {
    using values = new ValueTable(device, { slots: 64, dim: 12, dtype: 'bfloat16' })
    const layers = [1, 2].map((seed) => new MemoryLayer(device, { ...small, values, seed }))
    const parameters = layers.flatMap((l) => l.parameters())
    using optimizer = new AdamW(parameters, { lr: 0.1 })
    const before = await bitsOf(values, optimizer)
    values.track()
    const seen = new Set<number>()
    for (let step = 0; step < 6; step++) {
      for (const layer of layers) accumulate(layer, step)
      if (step % 2 === 0) for (const row of (await values.gradient().data()).rows) seen.add(row)
      optimizer.step(step % 2 === 0 ? {} : { rows: [...seen].slice(0, 3) })
      optimizer.zeroGrad()
    }
    const patch = await values.diff()
    expect([...patch.rows]).toEqual([...seen].sort((a, b) => a - b))
    await values.revert(patch)
    expect(await bitsOf(values, optimizer)).toEqual(before)
  })

  test('a void step is not in it, nor a row that has its old bits again', async () => {
    using table = newTable(device)
    using optimizer = new Sgd(parametersOf(table), { lr: 0.1 })
    table.track()
    queueRows(table, [1, 2], 1)
    optimizer.step({ rows: device.tensor(Int32Array.of(1, 99)) })
    await reportAll(device)
    expect((await table.diff()).rows.length).toBe(0)
    const row = device.empty([1, dim]).copyFrom(table.weight.rows(3, 4))
    table.weight.rows(3, 4).write(new Float32Array(dim))
    table.weight.rows(3, 4).copyFrom(row)
    expect((await table.diff()).rows.length).toBe(0)
    expect((await table.diff()).byteLength).toBe(0)
  })

  test('a table that was made void is what it was before', async () => {
    using table = newTable(device)
    const before = await bitsOf(table)
    table.track()
    const other = ops.mul(device.zeros([slots, 1]), faulty(device).reshape([2, 1]).rows(0, 1))
    table.weight.copyFrom(ops.add(other, device.zeros([slots, dim])))
    await reportAll(device)
    await errorOf('ERR_INDEX_RANGE', () => table.diff())
    table.load(device.zeros([slots, dim]))
    await table.revert(await table.diff())
    expect(await bitsOf(table)).toEqual(before)
  })

  test('patches of one table stack, and conflict out of order', async () => {
    using table = newTable(device, 'bfloat16')
    using optimizer = new AdamW(parametersOf(table), { lr: 0.01 })
    const bits = [await bitsOf(table, optimizer)]
    const patches: RowPatch[] = []
    for (const rows of [[1, 2], [2, 3], [7]]) {
      table.track()
      train(table, optimizer, 5, rows)
      patches.push(await table.diff())
      bits.push(await bitsOf(table, optimizer))
    }
    const [first, second, third] = patches as [RowPatch, RowPatch, RowPatch]
    const error = await table.revert(first).catch((e: unknown) => e)
    expect(error).toBeInstanceOf(MemoryLayersError)
    expect(error).toMatchObject({ code: 'ERR_CONFLICT', rows: Int32Array.of(2) })
    expect(String(error)).toContain('1 are not: 2')
    expect(await bitsOf(table, optimizer)).toEqual(bits[3])
    await table.revert(third)
    await table.revert(second)
    expect(await bitsOf(table, optimizer)).toEqual(bits[1])
    await table.apply(second)
    await table.apply(third)

    const stack = RowPatch.stack(patches)
    expect([...stack.rows]).toEqual([1, 2, 3, 7])
    await table.revert(stack)
    expect(await bitsOf(table, optimizer)).toEqual(bits[0])
    await table.apply(stack)
    expect(await bitsOf(table, optimizer)).toEqual(bits[3])
    expect(() => RowPatch.stack([second, first])).toThrow(/ERR_CONFLICT|must be as the patch/)
    const back = RowPatch.stack([third])
    expect(back).toEqual(third)
  })

  test('apply and revert are journaled as other writes are', async () => {
    using table = newTable(device)
    using optimizer = new Sgd(parametersOf(table), { lr: 0.01 })
    table.track()
    train(table, optimizer, 5, [1, 2])
    const patch = await table.diff()
    table.track()
    await table.revert(patch)
    const undo = await table.diff()
    expect([...undo.rows]).toEqual([1, 2])
    await table.revert(undo)
    expect((await table.diff()).rows.length).toBe(0)
    table.untrack()
    expect(table.tracked).toBe(false)
    await errorOf('ERR_VALUE', () => table.diff())
  })

  test('its memory grows with the rows that are touched, and is freed', async () => {
    using table = new ValueTable(device, { slots: 1 << 16, dim: 256 })
    using optimizer = new Sgd(parametersOf(table), { lr: 0.01 })
    const used = async () => {
      await device.synchronize()
      return device.memory().allocated
    }
    const before = await used()
    table.track()
    const marks = (await used()) - before
    expect(marks).toBeLessThan(2 * table.slots)
    for (let step = 0; step < 20; step++) {
      train(table, optimizer, step, [1, 2, 3, 4, 5, 6, 7, step + 10])
      await device.synchronize()
    }
    const journal = (await used()) - before - marks
    expect(journal).toBeGreaterThan(27 * 1024)
    expect(journal).toBeLessThan(4 * 35 * 1024)
    table.untrack()
    expect(await used()).toBe(before)
  })

  test('steps that nobody waits for', async () => {
    using table = new ValueTable(device, { slots: 500, dim, dtype: 'float16' })
    using optimizer = new AdamW(parametersOf(table), { lr: 0.01 })
    const before = await bitsOf(table, optimizer)
    table.track()
    for (let step = 0; step < 30; step++)
      train(table, optimizer, step, [step * 3, step * 7, step * 11 + 100])
    await table.revert(await table.diff())
    expect(await bitsOf(table, optimizer)).toEqual(before)
  })

  test('what is wrong is named', async () => {
    using table = newTable(device)
    using other = newTable(device, 'bfloat16')
    using wide = newTable(device, 'float32', 8)
    table.track()
    table.weight.rows(0, 1).write(new Float32Array(dim))
    const patch = await table.diff()
    await errorOf('ERR_DTYPE', () => other.apply(patch))
    await errorOf('ERR_SHAPE', () => wide.apply(patch))
    await errorOf('ERR_VALUE', () => table.apply({} as never))
    await errorOf('ERR_VALUE', async () => RowPatch.stack([]))
    using rounded = new ValueTable(device, { slots, dim, dtype: 'int8' })
    await errorOf('ERR_UNSUPPORTED', async () => rounded.track())
    table.dispose()
    await errorOf('ERR_DISPOSED', () => table.diff())
    await errorOf('ERR_DISPOSED', () => table.apply(patch))
  })
})

describe('the file of a patch', () => {
  test('any change to its bytes is another patch, or ERR_FILE_FORMAT', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'patch.safetensors')
    const { openDevice } = await import('../lib/index.js')
    using table = newTable(openDevice('cpu'), 'bfloat16')
    using optimizer = new Sgd(parametersOf(table), { lr: 0.01 })
    table.track()
    train(table, optimizer, 2, [5, 3, 17])
    await (await table.diff()).save(path)
    const whole = await readFile(path)
    const header = 8 + Number(whole.readBigUInt64LE(0))
    const change = fc.record({
      at: fc.integer({ min: 0, max: header + 11 }), // the header and the rows
      byte: fc.integer({ min: 0, max: 255 }),
      cut: fc.boolean(),
    })
    await fc.assert(
      fc.asyncProperty(change, async ({ at, byte, cut }) => {
        const bytes = Buffer.from(cut ? whole.subarray(0, at) : whole)
        if (!cut) bytes[at] = byte
        await writeFile(path, bytes)
        const found = await RowPatch.load(path).catch((error: unknown) => error)
        if (found instanceof RowPatch) {
          expect(found.rows.every((r, i) => r < found.slots && r > (found.rows[i - 1] ?? -1))).toBe(
            true,
          )
        } else expect(found).toMatchObject({ code: 'ERR_FILE_FORMAT' })
      }),
      { numRuns: 150 },
    )
  })

  test('tensors that do not fit each other are ERR_FILE_FORMAT', async () => {
    const folder = temporaryFolder()
    const path = join(folder, 'patch.safetensors')
    const { openDevice } = await import('../lib/index.js')
    const cpu = openDevice('cpu')
    using table = newTable(cpu, 'bfloat16')
    table.track()
    table.weight.rows(2, 4).write(new Float32Array(2 * dim))
    await (await table.diff()).save(path)
    const { tensors, metadata } = await readSafetensors(path, { device: cpu })
    const refuse = async (change: object, meta = metadata) => {
      const changed = Object.fromEntries(
        Object.entries({ ...tensors, ...change }).filter(([, t]) => t !== undefined),
      )
      await saveSafetensors(path, changed, { metadata: meta })
      const message = await errorOf('ERR_FILE_FORMAT', () => RowPatch.load(path))
      expect(message).toContain('row patch')
    }
    for (const rows of [[3, 2], [2, 2], [-1, 2], [2, 40], [2], [2, 3, 4]])
      await refuse({ rows: cpu.tensor(Int32Array.from(rows)) })
    await refuse({ rows: cpu.zeros([2]) })
    await refuse({ 'before.exact': undefined })
    await refuse({ before: undefined })
    await refuse({ after: cpu.zeros([2, dim]) })
    await refuse({ after: cpu.zeros([2, dim + 1], 'bfloat16') })
    await refuse({ more: cpu.zeros([1]) })
    for (const count of ['0', '-1', '1e3', '99999999999', '3'])
      await refuse({}, { ...metadata, slots: count })
    await refuse({}, {})
  })
})

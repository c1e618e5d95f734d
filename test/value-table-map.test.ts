import { mkdtempSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { system } from '../lib/files/system.js'
import {
  AdamW,
  loadSafetensors,
  MemoryLayer,
  openDevice,
  ops,
  saveSafetensors,
  ValueTable,
} from '../lib/index.js'
import { errorOf } from './support/errors.js'

const device = openDevice('cpu')
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-map-'))
const path = join(folder, 'table.safetensors')
afterAll(() => rmSync(folder, { recursive: true }))

const rows = device.normal([64, 6], { seed: 1 })
const narrow = rows.to('bfloat16')
const bytes = device.tensor(
  Int8Array.from({ length: 24 }, (_, i) => i - 12),
  [4, 6],
)
const scales = device.tensor([0.5, 1, 2, 4])

beforeAll(async () => {
  await saveSafetensors(path, {
    rows,
    narrow,
    bytes,
    scales,
    count: device.tensor(new Int32Array(64), [64, 1]),
  })
})

describe('ValueTable.map', () => {
  test('reads the rows of a table in memory, in every dtype', async () => {
    const indices = new Int32Array([0, 63, 5, 5])
    const weights = device.tensor([1, -2, 0.5, 3], [2, 2])
    for (const [name, source] of Object.entries({ rows, narrow })) {
      const table = ValueTable.map(path, name, { device })
      expect([table.slots, table.dim, table.dtype]).toEqual([64, 6, source.dtype])
      expect(await table.weight.data()).toEqual(await source.data())
      expect(await ops.embeddingBag(table.weight, indices, weights).data()).toEqual(
        await ops.embeddingBag(source, indices, weights).data(),
      )
      table.dispose()
    }
    const small = ValueTable.map(path, 'bytes', { device, scales: 'scales' })
    const y = ops.embeddingBag(small.weight, new Int32Array([3]), device.tensor([1], [1, 1]), {
      scales: small.scales!,
    })
    expect(await y.data()).toEqual(Float32Array.from([6, 7, 8, 9, 10, 11], (v) => v * 4))
  })

  test('is read by a layer, forward and backward, and never written to', async () => {
    const table = ValueTable.map(path, 'rows', { device })
    const inMemory = new ValueTable(device, { slots: 64, dim: 6 })
    inMemory.load(rows)
    const options = { inputDim: 6, heads: 2, knn: 3, nKeys: 8, keyDim: 4, seed: 2 } as const
    const mapped = new MemoryLayer(device, { ...options, values: table })
    const plain = new MemoryLayer(device, { ...options, values: inMemory })
    const x = device.normal([5, 6], { seed: 3 })
    const a = mapped.forward(x)
    const b = plain.forward(x)
    expect(await a.output.data()).toEqual(await b.output.data())
    expect(await mapped.backward(a.context, x).data()).toEqual(
      await plain.backward(b.context, x).data(),
    )

    const writes = [
      () => new AdamW(mapped.parameters(), { lr: 1 }),
      () => table.load(rows),
      () => table.weight.write(new Float32Array(384)),
      () => table.weight.rows(0, 5).write(new Float32Array(30)),
      () => table.weight.copyFrom(rows),
      () => ops.relu(rows, { out: table.weight }),
    ]
    for (const write of writes)
      expect(await errorOf('ERR_UNSUPPORTED', write), `${write}`).toContain('mapped')
    expect(await table.weight.data()).toEqual(await rows.data())
  })

  test('any table of a saved file can be mapped, wherever in the file it is', async () => {
    const file = join(folder, 'mixed.safetensors')
    const saved = {
      bytes: device.tensor(Int8Array.of(1, 2, 3)),
      half: device.normal([3, 1], { seed: 1, dtype: 'bfloat16' }),
      rows,
    }
    await saveSafetensors(file, saved)
    for (const name of ['half', 'rows'] as const)
      expect(await ValueTable.map(file, name, { device }).weight.data()).toEqual(
        await saved[name].data(),
      )
    const back = await loadSafetensors(file, { device })
    expect(Object.keys(back)).toEqual(['bytes', 'half', 'rows'])
    expect(await back['bytes']!.data()).toEqual(Int8Array.of(1, 2, 3))
  })

  test('a state dict checks the shape of the mapped table, and loads the rest', async () => {
    const table = ValueTable.map(path, 'rows', { device })
    const options = { inputDim: 6, heads: 2, knn: 3, nKeys: 8, keyDim: 4, values: table } as const
    const from = new MemoryLayer(device, { ...options, seed: 2 })
    const layer = new MemoryLayer(device, { ...options, seed: 3 })
    const before = await layer.stateDict()['keys']!.data()
    await errorOf('ERR_STATE_DICT', () =>
      layer.loadStateDict({ ...from.stateDict(), 'values.weight': device.zeros([64, 5]) }),
    )
    expect(await layer.stateDict()['keys']!.data()).toEqual(before)
    layer.loadStateDict({ ...from.stateDict(), 'values.weight': device.zeros([64, 6]) })
    expect(await layer.stateDict()['keys']!.data()).toEqual(await from.stateDict()['keys']!.data())
    expect(await table.weight.data()).toEqual(await rows.data())
  })

  test('outlives its dispose for work that was enqueued before', async () => {
    const table = ValueTable.map(path, 'rows', { device })
    const y = ops.add(table.weight, table.weight)
    table.dispose()
    expect(await y.data()).toEqual((await rows.data()).map((v) => v * 2))
  })

  test('allocates no device memory', () => {
    const before = device.memory().allocated
    using table = ValueTable.map(path, 'rows', { device })
    expect(table.weight.byteLength).toBe(64 * 6 * 4)
    expect(device.memory().allocated).toBe(before)
  })

  test('refuses what can not be mapped', async () => {
    const map = (name: string, options: object = {}) => {
      return () => ValueTable.map(path, name, { device, ...options })
    }
    expect(await errorOf('ERR_VALUE', map('row'))).toMatch(/"name" .*rows, narrow/s)
    expect(await errorOf('ERR_SHAPE', map('scales'))).toContain('[slots, dim]')
    await errorOf('ERR_DTYPE', map('count'))
    await errorOf('ERR_VALUE', map('bytes'))
    await errorOf('ERR_VALUE', map('rows', { scales: 'scales' }))
    await errorOf('ERR_OPTION', map('rows', { devise: device }))
    await errorOf('ERR_DEVICE', () => ValueTable.map(path, 'rows', {} as never))
    const cut = join(folder, 'cut.safetensors')
    await saveSafetensors(cut, { rows })
    truncateSync(cut, 1000)
    await errorOf('ERR_FILE_FORMAT', () => ValueTable.map(cut, 'rows', { device }))
    writeFileSync(cut, 'short')
    await errorOf('ERR_FILE_FORMAT', () => ValueTable.map(cut, 'rows', { device }))
  })

  test('header and rows are of one file, whatever is at the path meanwhile', async () => {
    const swapped = join(folder, 'swapped.safetensors')
    const other = join(folder, 'other.safetensors')
    const open = system.openSync
    for (const calls of [1, 2]) {
      await saveSafetensors(swapped, { first: device.zeros([64, 6]), rows })
      await saveSafetensors(other, { rows: device.zeros([64, 6]), first: device.zeros([1]) })
      let left = calls
      system.openSync = (...args) => {
        const file = open(...args)
        if (--left === 0) renameSync(other, swapped)
        return file
      }
      const table = ValueTable.map(swapped, 'rows', { device })
      system.openSync = open
      expect(await table.weight.data()).toEqual(await rows.data())
      expect(left).toBe(calls - 1) // opened once
    }
  })

  test('rows without elements are refused', async () => {
    const none = join(folder, 'none.safetensors')
    await saveSafetensors(none, { rows: device.zeros([0, 6]), wide: device.zeros([6, 0]) })
    for (const name of ['rows', 'wide'])
      await errorOf('ERR_SHAPE', () => ValueTable.map(none, name, { device }))
  })
})

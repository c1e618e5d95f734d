// Parameters that the caller made: what an optimizer or a clipping would write to is checked first.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import {
  clipGradNorm,
  type DType,
  openDevice,
  type Parameter,
  Sgd,
  saveSafetensors,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

const dense = (value: Tensor, grad: Tensor, name = 'w') =>
  ({ kind: 'dense', name, value, grad }) as Parameter
const step = (params: Parameter[]) => () => {
  const optimizer = new Sgd(params, { lr: 1 })
  optimizer.step()
  optimizer.zeroGrad()
}
const clip = (params: Parameter[]) => () => clipGradNorm(params, 1)

onEveryDevice((device) => {
  const ones = (dtype: DType = 'float32') => device.tensor([1, 1, 1, 1], [4], dtype)

  test.each(['int8', 'bfloat16'] as const)('a gradient of %s', async (dtype) => {
    const params = [dense(ones(), ones(dtype))]
    await errorOf('ERR_DTYPE', step(params))
    await errorOf('ERR_DTYPE', clip(params))
  })

  test('a value that is no float32', async () => {
    for (const dtype of ['int8', 'float16'] as const)
      await errorOf('ERR_DTYPE', step([dense(ones(dtype), ones())]))
  })

  test('values and gradients that share memory', async () => {
    const memory = device.tensor([1, 2, 3, 4, 5, 6], [6])
    const [low, high] = [memory.rows(0, 4), memory.rows(2, 6)]
    const before = await memory.data()
    const overlaps: Record<string, Parameter[]> = {
      'w.grad': [dense(low, low)],
      'w.grad beside': [dense(low, high)],
      v: [dense(low, ones()), dense(high, ones(), 'v')],
      'v the same': [dense(low, ones()), dense(low.reshape([2, 2]), ones(), 'v')],
      'v.grad': [dense(ones(), low), dense(ones(), high, 'v')],
    }
    for (const [name, params] of Object.entries(overlaps)) {
      const argument = `"${name.split(' ')[0]}" must have memory of its own`
      expect(await errorOf('ERR_VALUE', step(params))).toContain(argument)
    }
    const clipped = [dense(ones(), low), dense(ones(), high, 'v')]
    const message = await errorOf('ERR_VALUE', clip(clipped))
    expect(message).toContain('clipGradNorm: "v.grad" must have memory of its own')
    expect(message).toContain('overlaps "w.grad"')
    expect(await memory.data()).toEqual(before)
  })

  test('a table and its rows as a dense parameter', async () => {
    const table = new ValueTable(device, { slots: 2, dim: 2 })
    const rows = { kind: 'table', name: 'table', value: table.weight, table } as Parameter
    const grad = device.zeros([2, 2])
    const message = await errorOf('ERR_VALUE', step([rows, dense(table.weight, grad)]))
    expect(message).toContain('Sgd: "table" must have memory of its own')
  })

  test('one value with two gradients, and one parameter twice', async () => {
    const value = ones()
    const [first, second] = [dense(value, ones()), dense(value, ones())]
    await errorOf('ERR_VALUE', step([first, second]))
    step([first, first])()
    expect(await value.data()).toEqual(new Float32Array(4))
  })

  test('a disposed table, another tensor as its rows, what is no table', async () => {
    const table = new ValueTable(device, { slots: 2, dim: 2 })
    const other = device.zeros([2, 2])
    const parameter = (value: Tensor, of: unknown = table) =>
      ({ kind: 'table', name: 'table', value, table: of }) as Parameter
    const noTable = [undefined, {}, { weight: other, handle: {} }]
    for (const p of [parameter(other), ...noTable.map((of) => parameter(other, of))]) {
      await errorOf('ERR_VALUE', step([p]))
      await errorOf('ERR_VALUE', clip([p]))
    }
    const disposed = parameter(table.weight)
    table.dispose()
    await errorOf('ERR_DISPOSED', step([disposed]))
    await errorOf('ERR_DISPOSED', clip([disposed]))
    await errorOf('ERR_DISPOSED', () => table.gradient())
  })

  test('fields that differ from read to read are read once', async () => {
    const value = ones()
    const grad = ones()
    let reads = 0
    const p = {
      ...dense(value, grad),
      get grad() {
        return reads++ === 0 ? grad : undefined
      },
    } as Parameter
    step([p])()
    expect(reads).toBe(1)
    expect(await value.data()).toEqual(new Float32Array(4))
  })
})

describe('rows that are mapped from a file', () => {
  const device = openDevice('cpu')
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-by-hand-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  test('neither as a value nor as a gradient', async () => {
    const path = join(folder, 'rows.safetensors')
    await saveSafetensors(path, { rows: device.zeros([2, 2]) })
    const rows = ValueTable.map(path, 'rows', { device }).weight
    const other = device.zeros([2, 2])
    for (const params of [[dense(rows, other)], [dense(other, rows)]])
      expect(await errorOf('ERR_UNSUPPORTED', step(params))).toContain('mapped from a file')
    await errorOf('ERR_UNSUPPORTED', clip([dense(other, rows)]))
  })
})

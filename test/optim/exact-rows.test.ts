// 16-bit tables: their exact values belong to the table, whoever updates it.

import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import {
  Adagrad,
  AdamW,
  type Device,
  MemoryLayer,
  type Optimizer,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
  type StateDict,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { tableParameter } from '../../lib/parameter.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { accumulate, small } from '../support/optimizer.js'

const slots = 40
const dim = 20 // no multiple of a vector

const optimizers: Record<string, (p: readonly Parameter[]) => Optimizer> = {
  Sgd: (p) => new Sgd(p, { lr: 0.01, weightDecay: 0.1 }),
  Adagrad: (p) => new Adagrad(p, { lr: 0.01 }),
  RowwiseAdagrad: (p) => new RowwiseAdagrad(p, { lr: 0.01, weightDecay: 0.1 }),
  AdamW: (p) => new AdamW(p, { lr: 0.01 }),
  'AdamW dense': (p) => new AdamW(p, { lr: 0.01, tableMode: 'dense' }),
}

const dtypes = ['bfloat16', 'float16'] as const

type Rounded = (typeof dtypes)[number]

function newTable(device: Device, dtype: 'float32' | Rounded, seed = 1) {
  return new ValueTable(device, { slots, dim, dtype, init: { std: 1, seed } })
}

function parameterOf(table: ValueTable) {
  return [tableParameter('values', table)]
}

/** Queues a read of all rows but every third, with a gradient that `seed` selects. */
function queueRead(table: ValueTable, seed: number): void {
  const { device } = table
  const rows = Array.from({ length: slots }, (_, i) => i).filter((i) => i % 3 !== 0)
  const indices = device.tensor(Int32Array.from(rows), [rows.length, 1])
  const weights = device.tensor(new Float32Array(rows.length).fill(1), [rows.length, 1])
  const dy = device.normal([rows.length, dim], { seed })
  const handles = [indices, weights, dy].map((t) => t.handle('test', 'read'))
  native.tablePush(table.handle, handles[0]!, handles[1]!, handles[2]!)
}

function train(table: ValueTable, optimizer: Optimizer, seeds: readonly number[]): void {
  for (const seed of seeds) {
    queueRead(table, seed)
    optimizer.step()
    optimizer.zeroGrad()
  }
}

function masterOf(optimizer: Optimizer): Tensor {
  const [, master] = Object.entries(optimizer.stateDict()).find(([name]) =>
    name.endsWith('.master'),
  )!
  return master
}

/** A float32 table with the exact values of a 16-bit one, as they are rounded. */
function widened(table: ValueTable): ValueTable {
  const wide = newTable(table.device, 'float32')
  wide.load(table.weight)
  return wide
}

const bits = async (t: Tensor) => new Uint32Array((await t.data()).buffer)

onEveryDevice((device) => {
  describe.each(dtypes)('%s', (dtype) => {
    test.each(Object.entries(optimizers))(
      '%s trains the bits of a float32 table, rounded',
      async (_, make) => {
        const table = newTable(device, dtype)
        const wide = widened(table)
        const [a, b] = [make(parameterOf(table)), make(parameterOf(wide))]
        train(table, a, [1, 2, 3])
        train(wide, b, [1, 2, 3])
        const exact = await bits(masterOf(a))
        expect(exact).toEqual(await bits(wide.weight))
        const rounded = await bits(table.weight.to('float32'))
        for (const [i, u] of exact.entries()) {
          const up = (u + 0x8000) & 0xffff0000
          if (dtype === 'bfloat16') expect(rounded[i]).toBe(up >>> 0)
        }
      },
    )

    const ways: Record<string, (t: ValueTable, from: ValueTable) => void | Promise<void>> = {
      load: (t, from) => t.load(from.weight),
      'load of float32': (t, from) => t.load(from.weight.to('float32')),
      copyFrom: (t, from) => void t.weight.copyFrom(from.weight),
      write: async (t, from) => void t.weight.write(await from.weight.to('float32').data()),
      'write of its own bits': async (t) => void t.weight.write((await t.weight.bits()) as never),
      'a view': (t, from) =>
        void t.weight.reshape([slots * dim]).copyFrom(from.weight.reshape([slots * dim])),
      'rows by rows': (t, from) => {
        for (let i = 0; i < slots; i++) t.weight.rows(i, i + 1).copyFrom(from.weight.rows(i, i + 1))
      },
    }
    test.each(Object.entries(ways))('after %s, a step begins there', async (_, write) => {
      for (const make of Object.values(optimizers)) {
        const table = newTable(device, dtype, 1)
        const optimizer = make(parameterOf(table))
        train(table, optimizer, [1, 2])
        await write(table, newTable(device, dtype, 7))
        const wide = widened(table)
        expect(await bits(masterOf(optimizer))).toEqual(await bits(wide.weight))
        queueRead(table, 3)
        queueRead(wide, 3)
        new Sgd(parameterOf(table), { lr: 0.01 }).step()
        new Sgd(parameterOf(wide), { lr: 0.01 }).step()
        expect(await bits(masterOf(optimizer))).toEqual(await bits(wide.weight))
      }
    })

    test('rows that were not written keep their exact values', async () => {
      const table = newTable(device, dtype)
      const optimizer = new Sgd(parameterOf(table), { lr: 0.01 })
      train(table, optimizer, [1, 2])
      const before = await bits(masterOf(optimizer))
      table.weight.rows(3, 5).write(new Float32Array(2 * dim).fill(0.5))
      const after = await bits(masterOf(optimizer))
      const half = new Uint32Array(Float32Array.of(0.5).buffer)[0]!
      for (const [i, u] of after.entries()) {
        const row = Math.floor(i / dim)
        expect(u).toBe(row === 3 || row === 4 ? half : before[i])
      }
    })

    test('two optimizers share them', async () => {
      const table = newTable(device, dtype)
      const wide = widened(table)
      const pair = (t: ValueTable) => {
        const p = parameterOf(t)
        return [new Sgd(p, { lr: 0.01 }), new RowwiseAdagrad(p, { lr: 0.02 })] as const
      }
      const [a, b] = [pair(table), pair(wide)]
      for (let i = 0; i < 4; i++) {
        train(table, a[i % 2]!, [i])
        train(wide, b[i % 2]!, [i])
      }
      a[0].dispose()
      train(table, a[1], [9])
      train(wide, b[1], [9])
      expect(await bits(masterOf(a[1]))).toEqual(await bits(wide.weight))
    })

    test('a resumed run has the bits of one that was not interrupted', async () => {
      const make = (seed: number) => {
        const layer = new MemoryLayer(device, { ...small, dtype, seed })
        return { layer, optimizer: new AdamW(layer.parameters(), { lr: 0.05, weightDecay: 0.1 }) }
      }
      const run = ({ layer, optimizer }: ReturnType<typeof make>, seeds: number[]) => {
        for (const seed of seeds) {
          accumulate(layer, seed)
          optimizer.step()
          optimizer.zeroGrad()
        }
      }
      const whole = make(3)
      run(whole, [0, 1, 2, 3, 4, 5])
      const interrupted = make(3)
      run(interrupted, [0, 1, 2])
      const resumed = make(99)
      resumed.layer.loadStateDict(interrupted.layer.stateDict())
      resumed.optimizer.loadStateDict(interrupted.optimizer.stateDict())
      run(resumed, [3, 4, 5])
      expect(await bits(masterOf(resumed.optimizer))).toEqual(await bits(masterOf(whole.optimizer)))
      expect(await resumed.layer.values.weight.data()).toEqual(
        await whole.layer.values.weight.data(),
      )
    })

    test('a master that is not of these rows is not taken', async () => {
      const table = newTable(device, dtype)
      const optimizer = new Sgd(parameterOf(table), { lr: 0.01 })
      const state: StateDict = { ...optimizer.stateDict() }
      const name = Object.keys(state).find((n) => n.endsWith('.master'))!
      const held = await table.weight.to('float32').data()
      // one number is within half a step of the rounded one, the others are of another table
      const master = Float32Array.from(held, (v, i) => (i === 7 ? v * (1 + 2 ** -14) : v + 1))
      optimizer.loadStateDict({ ...state, [name]: device.tensor(master, [slots, dim]) })
      const wanted = Float32Array.from(held, (v, i) => (i === 7 ? master[7]! : v))
      expect(await masterOf(optimizer).data()).toEqual(wanted)
      expect(await table.weight.to('float32').data()).toEqual(held)
      await errorOf('ERR_STATE_DICT', () =>
        optimizer.loadStateDict({ ...state, [name]: device.zeros([slots, dim + 1]) }),
      )
    })
  })

  test('a bfloat16 master that lies between two takes either neighbour', async () => {
    const table = newTable(device, 'bfloat16')
    const optimizer = new Sgd(parameterOf(table), { lr: 0 })
    // 1 + 2^-8 is halfway between 1 and 1 + 2^-7; to nearest even it was stored as 1
    table.weight.write(new Float32Array(slots * dim).fill(1))
    const between = new Float32Array(slots * dim).fill(1 + 2 ** -8)
    const state: StateDict = { ...optimizer.stateDict() }
    const name = Object.keys(state).find((n) => n.endsWith('.master'))!
    optimizer.loadStateDict({ ...state, [name]: device.tensor(between, [slots, dim]) })
    expect(await masterOf(optimizer).data()).toEqual(between)
  })

  test('NaN stays NaN, and the largest number does not become infinite', async () => {
    const table = newTable(device, 'bfloat16')
    const optimizer = new Sgd(parameterOf(table), { lr: 1 })
    const largest = 3.4028234663852886e38
    table.weight.write(new Float32Array(slots * dim).fill(0))
    const indices = device.tensor(Int32Array.of(0, 1), [2, 1]).handle('test', 'i')
    const weights = device.tensor(Float32Array.of(1, 1), [2, 1]).handle('test', 'w')
    const gradient = new Float32Array(2 * dim).fill(-largest).fill(Number.NaN, dim)
    const dy = device.tensor(gradient, [2, dim]).handle('test', 'dy')
    native.tablePush(table.handle, indices, weights, dy)
    optimizer.step()
    const exact = await masterOf(optimizer).data()
    expect(exact.slice(0, dim)).toEqual(new Float32Array(dim).fill(largest))
    expect(exact.slice(dim, 2 * dim)).toEqual(new Float32Array(dim).fill(Number.NaN))
    const rounded = await table.weight.to('float32').data()
    expect(rounded.slice(dim, 2 * dim)).toEqual(new Float32Array(dim).fill(Number.NaN))
  })
})

// Parameter groups, and what follows `optimizer.lr`: every group, and the memory tables.

import { describe, expect, test } from 'vitest'
import {
  Adagrad,
  AdamW,
  type AdamWOptions,
  MemoryLayer,
  type Optimizer,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
} from '../../lib/index.js'
import { Embedding, Linear } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { accumulate, small } from '../support/optimizer.js'

onEveryDevice((device) => {
  /** A linear map, an embedding and a memory layer, with the gradients of one batch. */
  function make() {
    const linear = new Linear(device, { inputDim: 4, outputDim: 3, seed: 1 })
    for (const p of linear.parameters())
      if (p.kind === 'dense') p.grad.write(new Float32Array(p.grad.size).fill(0.5))
    const embedding = new Embedding(device, { count: 5, dim: 4, seed: 2 })
    const { context } = embedding.forward([0, 1, 4, 1])
    embedding.backward(context, device.normal([4, 4], { seed: 3 }))
    const memory = new MemoryLayer(device, small)
    accumulate(memory, 1)
    const parts = {
      linear: linear.parameters(),
      embedding: embedding.parameters(),
      memory: memory.parameters().filter((p) => p.kind === 'dense'),
      table: memory.parameters().filter((p) => p.kind === 'table'),
    }
    return { parts, all: Object.values(parts).flat() as Parameter[] }
  }
  type Parts = ReturnType<typeof make>['parts']

  const values = async (parameters: readonly Parameter[]) =>
    Promise.all(parameters.map(async (p) => [...(await p.value.data())]))

  /** Each part after one step of an optimizer of its own. */
  async function stepApart(options: (part: keyof Parts) => AdamWOptions) {
    const { parts } = make()
    const result: Record<string, number[][]> = {}
    for (const [name, parameters] of Object.entries(parts)) {
      new AdamW(parameters, options(name as keyof Parts)).step()
      result[name] = await values(parameters)
    }
    return result
  }

  async function stepTogether(step: (parts: Parts, all: readonly Parameter[]) => Optimizer) {
    const { parts, all } = make()
    step(parts, all).step()
    const result: Record<string, number[][]> = {}
    for (const [name, parameters] of Object.entries(parts)) result[name] = await values(parameters)
    return result
  }

  test('each group has its own rate and decay; the rest those of the options', async () => {
    const wanted = await stepApart(
      (part) =>
        ({
          linear: { lr: 0.01, weightDecay: 0.5 },
          embedding: { lr: 0.02, weightDecay: 0.1 },
          memory: { lr: 0.02, weightDecay: 0 },
          table: { lr: 0.04, weightDecay: 0 },
        })[part],
    )
    const got = await stepTogether(
      ({ linear, embedding, memory, table }) =>
        new AdamW(
          [
            { params: linear, lr: 0.01, weightDecay: 0.5 },
            { params: embedding },
            { params: [...memory, ...table], weightDecay: 0, tableLr: 0.04 },
          ],
          { lr: 0.02, weightDecay: 0.1 },
        ),
    )
    expect(got).toEqual(wanted)
  })

  test('tableLr is of memory tables: an embedding follows lr', async () => {
    const wanted = await stepApart((part) => ({ lr: part === 'table' ? 0.08 : 0.01 }))
    const got = await stepTogether((_, all) => new AdamW(all, { lr: 0.01, tableLr: 0.08 }))
    expect(got).toEqual(wanted)
  })

  test('lr scales groups and tables; constant exempts; a tableLr that is set stays', async () => {
    const groups = ({ linear, embedding, memory, table }: Parts) => [
      { params: linear, lr: 0.01 },
      { params: embedding, lr: 0.5, constant: true },
      { params: [...memory, ...table] },
    ]
    const halved = await stepTogether((parts) => {
      const optimizer = new AdamW(groups(parts), { lr: 0.02, tableLr: 0.08 })
      optimizer.lr = 0.01
      expect(optimizer.baseLr).toBe(0.02)
      expect(optimizer.tableLr).toBe(0.04)
      return optimizer
    })
    const rates = { linear: 0.005, embedding: 0.5, memory: 0.01, table: 0.04 }
    expect(halved).toEqual(await stepApart((part) => ({ lr: rates[part] })))

    const detached = await stepTogether((parts) => {
      const optimizer = new AdamW(groups(parts), { lr: 0.02, tableLr: 0.08 })
      optimizer.tableLr = 0.3
      optimizer.lr = 0.01
      expect(optimizer.tableLr).toBe(0.3)
      return optimizer
    })
    expect(detached).toEqual(await stepApart((part) => ({ lr: { ...rates, table: 0.3 }[part] })))
  })

  describe.each([
    ['Sgd', Sgd],
    ['Adagrad', Adagrad],
    ['RowwiseAdagrad', RowwiseAdagrad],
  ] as const)('%s', (_, Rule) => {
    test('takes groups and tableLr', async () => {
      const run = async (build: (parts: Parts) => readonly Optimizer[]) => {
        const { parts, all } = make()
        for (const optimizer of build(parts)) optimizer.step()
        return values(all)
      }
      const got = await run(({ linear, ...rest }) => [
        new Rule(
          [{ params: linear, lr: 0.3 }, { params: Object.values(rest).flat() as Parameter[] }],
          { lr: 0.1, tableLr: 0.7 },
        ),
      ])
      const wanted = await run(({ linear, embedding, memory, table }) => [
        new Rule(linear, { lr: 0.3 }),
        new Rule([...embedding, ...memory], { lr: 0.1 }),
        new Rule(table, { lr: 0.7 }),
      ])
      expect(got).toEqual(wanted)
    })
  })

  test('bad groups are refused', async () => {
    const { parts } = make()
    const adamw =
      (groups: unknown, options: object = { lr: 1 }) =>
      () =>
        new AdamW(groups as never, options as never)
    const { linear, table } = parts
    expect(await errorOf('ERR_OPTION', adamw([{ params: linear, lrs: 1 }]))).toContain('"lr"')
    const twice = adamw([{ params: linear }, { params: linear }])
    expect(await errorOf('ERR_VALUE', twice)).toContain('params[0] and params[1]')
    const bad = adamw([{ params: linear }, { params: table, lr: -1 }])
    expect(await errorOf('ERR_VALUE', bad)).toContain('params[1].lr')
    await errorOf('ERR_VALUE', adamw([{ params: [] }]))
    await errorOf('ERR_VALUE', adamw([{ params: linear, constant: 1 }]))
    await errorOf('ERR_VALUE', adamw([{ params: linear, weightDecay: -1 }]))
    await errorOf('ERR_OPTION', adamw([{ params: linear }, ...table]))
    const fixed = new AdamW([{ params: linear, lr: 1 }], { lr: 0 })
    fixed.step()
    fixed.lr = 1
    expect(await errorOf('ERR_VALUE', () => fixed.step())).toContain('stay 0')
  })

  test('a state dict has the names of ungrouped parameters in the same order', () => {
    const { parts, all } = make()
    const names = (optimizer: Optimizer) => Object.keys(optimizer.stateDict())
    const grouped = new AdamW(
      [
        { params: parts.linear },
        { params: [...parts.embedding, ...parts.memory, ...parts.table], lr: 1 },
      ],
      { lr: 2 },
    )
    expect(names(grouped)).toEqual(names(new AdamW(all, { lr: 1 })))
  })
})

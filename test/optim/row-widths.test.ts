// Tables of every width: rows that a warp of a GPU has in registers, and those that it updates
// slice by slice; with so many reads that a GPU visits the rows by their tokens.

import { describe, expect, test } from 'vitest'
import { native } from '../../lib/binding.js'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  type Device,
  type Optimizer,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
  ValueTable,
} from '../../lib/index.js'
import { adagrad } from '../reference/adagrad.js'
import { adamw } from '../reference/adamw.js'
import { OptimizedParameter, type Rule } from '../reference/optimizer.js'
import { rowwiseAdagrad } from '../reference/rowwise-adagrad.js'
import { sgd } from '../reference/sgd.js'
import { expectSameTraining, type Trained } from '../support/captured.js'
import { onEveryDevice } from '../support/devices.js'
import { integers, uniform } from '../support/random.js'
import { parametersOf } from '../support/table-reads.js'

const widths = [1, 31, 64, 128, 129, 257, 512, 513, 1000, 1024, 1025, 2048, 2056]
const dtypes = ['float32', 'bfloat16', 'float16'] as const
const slots = 40
const hyper = { lr: 0.05, weightDecay: 0.1 }

const rules: Record<string, [(p: readonly Parameter[]) => Optimizer, Rule]> = {
  RowwiseAdagrad: [(p) => new RowwiseAdagrad(p, hyper), rowwiseAdagrad],
  Adagrad: [(p) => new Adagrad(p, hyper), adagrad],
  AdamW: [(p) => new AdamW(p, hyper), adamw],
  Sgd: [(p) => new Sgd(p, hyper), sgd],
}

/** A read of bags of two, with padding and a row of more entries than one warp sums. */
function newRead(dim: number, bags: number, seed: number) {
  const random = integers(bags * 2, -1, slots - 3, seed)
  return {
    bags,
    indices: Int32Array.from(random, (row, e) => (e % 2 === 0 && bags > 200 ? 7 : row)),
    weights: uniform(bags * 2, seed + 1),
    dy: uniform(bags * dim, seed + 2),
  }
}
type Read = ReturnType<typeof newRead>

function queue(table: ValueTable, { bags, indices, weights, dy }: Read): void {
  const tensors = [
    table.device.tensor(indices, [bags, 2]),
    table.device.tensor(weights, [bags, 2]),
    table.device.tensor(dy, [bags, table.dim]),
  ]
  const [i, w, d] = tensors.map((t) => t.handle('test', 'read'))
  native.tablePush(table.handle, i!, w!, d!)
  for (const t of tensors) t.dispose()
}

/** The dense gradient in float64, and the rows that it touches. */
function gradientOf({ indices, weights, dy }: Read, dim: number) {
  const gradient = new Float64Array(slots * dim)
  for (const [e, row] of indices.entries())
    for (let c = 0; row >= 0 && c < dim; c++)
      gradient[row * dim + c]! += weights[e]! * dy[(e >> 1) * dim + c]!
  return { gradient, rows: [...new Set(indices)].filter((row) => row >= 0) }
}

/** A table's float32 values, of which a 16-bit one keeps the low half beside it. */
async function exactValues(table: ValueTable, optimizer: Optimizer): Promise<Float32Array> {
  const states = Object.entries(optimizer.stateDict())
  const master = states.find(([name]) => name.endsWith('.master'))?.[1]
  return (await (master ?? table.weight).data()) as Float32Array
}

/** A step, a step that is clipped, and one of some rows: each as the rule in float64. */
async function expectSteps(
  device: Device,
  { dim, dtype, rule: name }: { dim: number; dtype: (typeof dtypes)[number]; rule: string },
): Promise<void> {
  const [make, rule] = rules[name]!
  const table = new ValueTable(device, { slots, dim, dtype, init: { std: 1, seed: 1 } })
  const parameters = parametersOf(table)
  const optimizer = make(parameters)
  const start = await exactValues(table, optimizer)
  const reference = new OptimizedParameter(Float64Array.from(start), dim)
  const chosen = [1, 7, 38, 20, -1]
  for (let step = 1; step <= 3; step++) {
    const read = newRead(dim, step === 1 ? 300 : 40, step)
    const { gradient, rows } = gradientOf(read, dim)
    queue(table, read)
    if (step === 2) {
      const norm = Math.hypot(...gradient)
      const clipped = clipGradNorm(parameters, norm / 4)
      expect((await clipped.data())[0]! / norm).toBeCloseTo(1, 4)
      for (const i of gradient.keys()) gradient[i]! /= 4
    }
    const updated = step === 3 ? rows.filter((row) => chosen.includes(row)) : rows
    reference.update(rule, gradient, hyper, step, updated)
    if (step === 3) optimizer.step({ rows: chosen })
    else optimizer.step()
    optimizer.zeroGrad()
  }
  const got = await exactValues(table, optimizer)
  for (const [i, value] of got.entries()) {
    const wanted = reference.x[i]!
    if (!(Math.abs(value - wanted) <= 5e-5 * Math.max(1, Math.abs(wanted))))
      expect.fail(`[${Math.floor(i / dim)}, ${i % dim}] is ${value}, wanted ${wanted}`)
  }
}

onEveryDevice((device) => {
  describe.each(widths)('%d wide', (dim) => {
    test.each(dtypes)('RowwiseAdagrad of %s equals the float64 rule', (dtype) =>
      expectSteps(device, { dim, dtype, rule: 'RowwiseAdagrad' }),
    )
    test.each(['Sgd', 'Adagrad', 'AdamW'])('%s equals the float64 rule', (rule) =>
      expectSteps(device, { dim, dtype: 'float32', rule }),
    )
  })

  test.each([513, 1024, 1028])('captured, %d wide: the same bits', async (dim) => {
    const make = (): Trained => {
      const table = new ValueTable(device, {
        slots,
        dim,
        dtype: 'bfloat16',
        init: { std: 1, seed: 1 },
      })
      const parameters = parametersOf(table)
      const optimizer = new RowwiseAdagrad(parameters, hyper)
      const read = newRead(dim, 150, 5)
      const indices = device.tensor(read.indices, [150, 2])
      const weights = device.tensor(read.weights, [150, 2])
      const dy = device.tensor(read.dy, [150, dim])
      return {
        optimizer,
        parameters,
        feed: (i) => dy.write(uniform(150 * dim, i)),
        step: () => {
          const handles = [indices, weights, dy].map((t) => t.handle('test', 'read'))
          native.tablePush(table.handle, handles[0]!, handles[1]!, handles[2]!)
          const norm = clipGradNorm(parameters, 0.5)
          optimizer.step()
          optimizer.zeroGrad()
          return [norm]
        },
      }
    }
    await expectSameTraining(device, make, 4, 1)
  })
})

// An output head tied to an embedding: one table, whose dense gradient and sparse reads meet in one
// update.

import { describe, expect, test } from 'vitest'
import {
  Adagrad,
  AdamW,
  clipGradNorm,
  type Optimizer,
  ops,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
  ValueTable,
} from '../../lib/index.js'
import { Embedding, Linear } from '../../lib/nn/index.js'
import { adagrad } from '../reference/adagrad.js'
import { adamw } from '../reference/adamw.js'
import { linear, linearBackward } from '../reference/linear.js'
import { type Hyper, OptimizedParameter, type Rule } from '../reference/optimizer.js'
import { rowwiseAdagrad } from '../reference/rowwise-adagrad.js'
import { sgd } from '../reference/sgd.js'
import { expectClose } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { gradientOf } from '../support/optimizer.js'
import { uniform } from '../support/random.js'

const [N, V] = [9, 6]
const tokens = Int32Array.of(3, 0, 3, 8, 5)
const T = tokens.length

interface Case {
  make: (p: readonly Parameter[]) => Optimizer
  rule: Rule
  hyper: Hyper
}

const cases: Record<string, Case> = {
  Sgd: {
    make: (p) => new Sgd(p, { lr: 0.1, weightDecay: 0.1 }),
    rule: sgd,
    hyper: { lr: 0.1, weightDecay: 0.1 },
  },
  Adagrad: { make: (p) => new Adagrad(p, { lr: 0.1 }), rule: adagrad, hyper: { lr: 0.1 } },
  RowwiseAdagrad: {
    make: (p) => new RowwiseAdagrad(p, { lr: 0.1 }),
    rule: rowwiseAdagrad,
    hyper: { lr: 0.1 },
  },
  AdamW: {
    make: (p) => new AdamW(p, { lr: 0.01, weightDecay: 0.1 }),
    rule: adamw,
    hyper: { lr: 0.01, weightDecay: 0.1 },
  },
  'AdamW of every row': {
    make: (p) => new AdamW(p, { lr: 0.01, tableMode: 'dense' }),
    rule: adamw,
    hyper: { lr: 0.01 },
  },
}

/** The gradient of <dy, E[tokens] E^T> for the table E, in float64. */
function tableGradient(table: ArrayLike<number>, dy: ArrayLike<number>): Float64Array {
  const x = Float64Array.from({ length: T * V }, (_, i) => {
    return table[tokens[Math.floor(i / V)]! * V + (i % V)]!
  })
  const { dx, dWeight } = linearBackward(dy, x, table, T, V, N)
  for (const [i, d] of dx.entries()) dWeight[tokens[Math.floor(i / V)]! * V + (i % V)]! += d
  return dWeight
}

onEveryDevice((device) => {
  function model(dtype: 'float32' | 'bfloat16' | 'float16' = 'float32') {
    const embedding = new Embedding(device, { count: N, dim: V, seed: 1 })
    // Embeddings are float32; a table of 16 bits is read as one.
    const table =
      dtype === 'float32' ? embedding.table : new ValueTable(device, { slots: N, dim: V, dtype })
    const head = new Linear(device, { inputDim: V, outputDim: N, bias: false, weight: table })
    const read = () => {
      if (table === embedding.table) return embedding.apply(tokens)
      const ones = device.tensor(new Float32Array(T).fill(1), [T, 1])
      return ops.embeddingBag(table.weight, tokens, ones)
    }
    return { embedding, table, head, read, parameters: head.parameters() }
  }

  const gradient = (seed: number) => device.tensor(uniform(T * N, seed), [T, N])

  describe.each(['float32', 'bfloat16', 'float16'] as const)('%s', (dtype) => {
    test.each(Object.entries(cases))('%s: four steps equal the float64 rule', async (_, c) => {
      const { table, head, read, parameters } = model(dtype)
      const optimizer = c.make(parameters)
      const exact = async () =>
        dtype === 'float32' ? table.weight.data() : optimizer.stateDict()['0.weight.master']!.data()
      const reference = new OptimizedParameter(Float64Array.from(await exact()), V)
      const every = Array.from({ length: N }, (_, row) => row)
      for (let step = 1; step <= 4; step++) {
        const rounded = await table.weight.to('float32').data()
        const y = head.apply(read())
        const x = Float32Array.from({ length: T * V }, (_, i) => {
          return rounded[tokens[Math.floor(i / V)]! * V + (i % V)]!
        })
        expectClose('y', await y.data(), linear(x, rounded, undefined, T, V, N))
        y.backward(gradient(step))
        const wanted = tableGradient(rounded, uniform(T * N, step))
        expectClose('gradient', await gradientOf(parameters[0]!), wanted)
        expect([...(await table.gradient().data()).rows]).toEqual(every)

        optimizer.step()
        optimizer.zeroGrad()

        reference.update(c.rule, wanted, c.hyper, step, every)
        const got = await exact()
        expectClose(`step ${step}`, got, reference.x, 2e-5)
        reference.x.set(got)
      }
    })
  })

  test('explicit contexts give the same bits as apply', async () => {
    const [a, b] = [model(), model()]
    const read = a.embedding.forward(tokens)
    const { output, context } = a.head.forward(read.output)
    const dx = a.head.backward(context, gradient(1))
    a.embedding.backward(read.context, dx)
    const y = b.head.apply(b.read())
    y.backward(gradient(1))
    expect(await y.data()).toEqual(await output.data())
    expect(await gradientOf(b.parameters[0]!)).toEqual(await gradientOf(a.parameters[0]!))
  })

  test('gradients add up over backwards, and over a clipping between them', async () => {
    const { table, head, read, parameters } = model()
    const weight = await table.weight.data()
    const run = (seed: number) => head.apply(read()).backward(gradient(seed))
    const of = (seed: number) => tableGradient(weight, uniform(T * N, seed))
    run(1)
    run(2)
    const sum = of(1).map((v, i) => v + of(2)[i]!)
    expectClose('sum', await gradientOf(parameters[0]!), sum)
    const norm = Math.hypot(...sum)
    expectClose('norm', await clipGradNorm(parameters, 0.5).data(), [norm])
    const clipped = sum.map((v) => (v * 0.5) / norm)
    expectClose('clipped', await gradientOf(parameters[0]!), clipped)
    run(3)
    const later = of(3)
    const all = clipped.map((v, i) => v + later[i]!)
    expectClose('after', await gradientOf(parameters[0]!), all)
    table.zeroGrad()
    expect(table.pendingReads).toBe(0)
    expect((await table.gradient().data()).rows.length).toBe(0)
    run(1)
    expectClose('anew', await gradientOf(parameters[0]!), of(1))
  })

  test('a step without a backward of the head touches only the rows that were read', async () => {
    const { table, head, read, parameters } = model()
    const optimizer = new Sgd(parameters, { lr: 1, weightDecay: 0.5 })
    head.apply(read()).backward(gradient(1))
    optimizer.step()
    optimizer.zeroGrad()
    const before = await table.weight.data()
    read().backward(device.tensor(uniform(T * V, 1), [T, V]))
    optimizer.step()
    const after = await table.weight.data()
    const changed = Array.from({ length: N }, (_, row) => row).filter((row) =>
      before.subarray(row * V, (row + 1) * V).some((v, i) => v !== after[row * V + i]),
    )
    expect(changed).toEqual([0, 3, 5, 8])
  })

  test("the table is one in a model's parameters and state", async () => {
    const { embedding, head } = model()
    const parameters = [...embedding.parameters(), ...head.parameters()]
    const optimizer = new AdamW(parameters, { lr: 1 })
    expect(Object.keys(optimizer.stateDict())).toEqual([
      'step',
      '0.weight.exp_avg',
      '0.weight.exp_avg_sq',
    ])
    expect(head.stateDict()['weight']).toBe(embedding.table.weight)
    head.loadStateDict({})
    head.dispose()
    expect(embedding.table.weight.disposed).toBe(false)
  })

  test('options are checked', async () => {
    const weight = new ValueTable(device, { slots: 4, dim: 3 })
    const make = (options: object) => () => new Linear(device, options as never)
    const message = await errorOf('ERR_SHAPE', make({ inputDim: 4, outputDim: 3, weight }))
    expect(message).toContain('[outputDim, inputDim] [3, 4], got [4, 3]')
    await errorOf('ERR_VALUE', make({ inputDim: 3, outputDim: 4, weight: weight.weight }))
    const int8 = new ValueTable(device, { slots: 4, dim: 3, dtype: 'int8' })
    await errorOf('ERR_DTYPE', make({ inputDim: 3, outputDim: 4, weight: int8 }))
    weight.dispose()
    await errorOf('ERR_DISPOSED', make({ inputDim: 3, outputDim: 4, weight }))
  })
})

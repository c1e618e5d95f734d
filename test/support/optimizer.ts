import { expect } from 'vitest'
import { type Device, MemoryLayer, type Optimizer, type Parameter } from '../../lib/index.js'
import { type Hyper, OptimizedParameter, type Rule } from '../reference/optimizer.js'

/** Options of a layer whose table has rows that a batch of `accumulate` does not read. */
export const small = { inputDim: 12, heads: 2, knn: 3, nKeys: 8, keyDim: 8, seed: 3 }

/** Accumulates the gradients of one random batch, which `seed` selects. */
export function accumulate(layer: MemoryLayer, seed: number): void {
  const x = layer.device.normal([6, 12], { seed })
  const dy = layer.device.normal([6, 12], { seed: 100 + seed })
  layer.backward(layer.forward(x).context, dy)
}

/** A gradient as numbers, that of a table with all its rows. */
export async function gradientOf(p: Parameter): Promise<ArrayLike<number>> {
  return p.kind === 'table' ? p.grad.toDense().data() : p.grad.data()
}

export interface RuleCase {
  optimizer: (parameters: readonly Parameter[]) => Optimizer
  /** The rule of tables, and of dense parameters if they have none of their own. */
  rule: Rule
  denseRule?: Rule
  hyper: Hyper
  /** The learning rate of tables, if it is another. */
  tableLr?: number
  /** Every row of a table is updated, not only those with a gradient. */
  allRows?: boolean
}

/** Trains a memory layer for five steps, each of which must equal the rule in float64. */
export async function expectRule(device: Device, c: RuleCase): Promise<void> {
  const layer = new MemoryLayer(device, small)
  const parameters = layer.parameters()
  const optimizer = c.optimizer(parameters)
  const references = new Map<Parameter, OptimizedParameter>()
  for (const p of parameters) {
    const width = p.kind === 'table' ? p.value.shape[1]! : 1
    const x = Float64Array.from(await p.value.data())
    references.set(p, new OptimizedParameter(x, width))
  }
  for (let step = 1; step <= 5; step++) {
    accumulate(layer, step)
    for (const [p, reference] of references) {
      const gradient = await gradientOf(p)
      const every = Array.from({ length: reference.rows }, (_, row) => row)
      if (p.kind === 'dense')
        reference.update(c.denseRule ?? c.rule, gradient, c.hyper, step, every)
      else {
        const rows = c.allRows ? every : (await p.grad.data()).rows
        const hyper = { ...c.hyper, lr: c.tableLr ?? c.hyper.lr }
        reference.update(c.rule, gradient, hyper, step, rows)
      }
    }

    optimizer.step()
    optimizer.zeroGrad()

    for (const [p, { x }] of references) {
      const got = await p.value.data()
      for (const [i, value] of got.entries()) {
        const error = Math.abs(value - x[i]!) / Math.max(0.1, Math.abs(x[i]!))
        if (!(error <= 2e-5))
          expect.fail(`${p.name}[${i}] after step ${step} is ${value}, wanted ${x[i]}`)
      }
      // The reference continues from the device's float32 numbers: the next batch then selects the
      // same slots.
      x.set(got)
    }
  }
}

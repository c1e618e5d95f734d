// Optimizers and clipping in the interpreter, over the update rules of test/reference.

import { adagrad } from '../../../reference/adagrad.js'
import { adamw } from '../../../reference/adamw.js'
import { type Hyper, OptimizedParameter, type Rule } from '../../../reference/optimizer.js'
import { rowwiseAdagrad } from '../../../reference/rowwise-adagrad.js'
import { sgd } from '../../../reference/sgd.js'
import type { ModelParameter } from './memory-layer.js'
import { type Noise, type Samples, sampleCount } from './samples.js'
import type { ModelTable } from './table.js'

export const ruleNames = ['Sgd', 'Adagrad', 'RowwiseAdagrad', 'AdamW'] as const
export type RuleName = (typeof ruleNames)[number]

const rules: Record<RuleName, { dense: Rule; table: Rule }> = {
  Sgd: { dense: sgd, table: sgd },
  Adagrad: { dense: adagrad, table: adagrad },
  RowwiseAdagrad: { dense: adagrad, table: rowwiseAdagrad },
  AdamW: { dense: adamw, table: adamw },
}

export class ModelOptimizer {
  #step = 0
  readonly #states = new Map<object, OptimizedParameter[]>()

  constructor(
    readonly name: RuleName,
    readonly hyper: Hyper,
    readonly dense: readonly ModelParameter[],
    readonly tables: readonly ModelTable[],
    readonly noise: Noise,
  ) {}

  step(): void {
    this.#step++
    for (const p of this.dense) {
      const rows = Array.from({ length: p.value.size }, (_, row) => row)
      const update = this.#update(
        p,
        p.value.samples,
        p.grad.samples,
        1,
        rules[this.name].dense,
        rows,
      )
      p.value.update(update, p.grad.faults, this.noise)
    }
    for (const table of this.tables) {
      if (table.queue.length === 0) continue
      const { dense, rows } = table.gradient()
      const exact = table.exact
      table.setExact(
        this.#update(table, exact, dense, table.dim, rules[this.name].table, [...rows]),
      )
    }
  }

  #update(
    key: object,
    values: Samples,
    gradient: Samples,
    width: number,
    rule: Rule,
    rows: readonly number[],
  ): Samples {
    let states = this.#states.get(key)
    if (!states) {
      states = values.map((v) => new OptimizedParameter(new Float64Array(v.length), width))
      this.#states.set(key, states)
    }
    const [x, g] = [this.noise.perturb(values), this.noise.perturb(gradient)]
    for (let s = 0; s < sampleCount; s++) {
      states[s]!.x.set(x[s]!)
      states[s]!.update(rule, g[s]!, this.hyper, this.#step, rows)
    }
    return this.noise.perturb(states.map((state) => Float64Array.from(state.x)))
  }

  zeroGrad(): void {
    for (const { grad } of this.dense) {
      const zeros = grad.samples.map((g) => new Float64Array(g.length))
      grad.overwrite(zeros, 0, this.noise)
    }
    for (const table of this.tables) table.queue = []
  }
}

/** Scales all gradients by min(1, maxNorm / norm); returns the norm. */
export function clip(
  dense: readonly ModelParameter[],
  tables: readonly ModelTable[],
  maxNorm: number,
  noise: Noise,
): Samples {
  const gradients = [
    ...dense.map((p) => p.grad.samples),
    ...tables.map((table) => table.gradient().dense),
  ]
  const norm = noise.map(gradients, (...all) => {
    const squares = all.reduce((sum, g) => sum + g.reduce((s, v) => s + v * v, 0), 0)
    return Float64Array.of(Math.sqrt(squares))
  })
  const factors = norm.map((n) => Math.min(1, maxNorm / (n[0]! + 1e-6)))
  const scale = (x: Samples) => noise.perturb(x.map((v, s) => v.map((e) => e * factors[s]!)))
  for (const { grad } of dense) grad.update(scale(grad.samples), 0, noise)
  for (const table of tables)
    table.queue = table.queue.map((read) => ({ ...read, weights: scale(read.weights) }))
  return norm
}

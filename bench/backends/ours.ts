// This package, through its own API.

import { native } from '../../lib/binding.js'
import {
  AdamW,
  type Device,
  openDevice,
  ops,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
  ValueTable,
} from '../../lib/index.js'
import { tableParameter } from '../../lib/parameter.js'
import type { HostTable } from '../data.js'
import type { Contender } from '../harness.js'
import {
  adagradEps,
  adam,
  type Backend,
  type BagProblem,
  type BagWeightsProblem,
  type GemmProblem,
  type LookupProblem,
  lr,
  type Rule,
  type UpdateProblem,
} from './backend.js'

const optimizers = {
  sgd: (p: ReturnType<typeof tableParameter>) => new Sgd([p], { lr }),
  rowwiseAdagrad: (p: ReturnType<typeof tableParameter>) =>
    new RowwiseAdagrad([p], { lr, eps: adagradEps }),
  adamw: (p: ReturnType<typeof tableParameter>) =>
    new AdamW([p], { lr, betas: [adam.beta1, adam.beta2], eps: adam.eps }),
} satisfies Record<Rule, unknown>

export class Ours implements Backend {
  readonly name = 'memory-layers'
  readonly threads: number
  readonly device: Device
  readonly #probe: Tensor
  #tables = new Map<string, { weight: Tensor; scales: Tensor | undefined }>()

  constructor(threads: number) {
    this.threads = threads
    this.device = openDevice('cpu', { threads })
    this.#probe = this.device.zeros([1])
  }

  /** Returns when everything enqueued has run. */
  readonly wait = (): void => {
    this.#probe.dataSync()
  }

  /** The table on the device, made once. */
  table(table: HostTable): { weight: Tensor; scales: Tensor | undefined } {
    let found = this.#tables.get(table.key)
    if (!found) {
      const weight = this.device.tensor(table.data, [table.slots, table.dim], table.dtype)
      found = { weight, scales: table.scales && this.device.tensor(table.scales) }
      this.#tables.set(table.key, found)
    }
    return found
  }

  #inputs({ sets, tokens, bag }: BagProblem) {
    return sets.map((s) => ({
      indices: this.device.tensor(s.indices, [tokens, bag]),
      weights: this.device.tensor(s.weights, [tokens, bag]),
    }))
  }

  async bag(problem: BagProblem): Promise<Contender> {
    const { weight, scales } = this.table(problem.table)
    const inputs = this.#inputs(problem)
    const out = this.device.empty([problem.tokens, problem.table.dim])
    const run = (set: number) =>
      ops.embeddingBag(weight, inputs[set]!.indices, inputs[set]!.weights, { scales, out })
    return {
      run,
      wait: this.wait,
      result: async () => ({ y: await run(0).data() }),
      release: () => dispose(out, ...inputs.flatMap((r) => [r.indices, r.weights])),
    }
  }

  async bagWeights(problem: BagWeightsProblem): Promise<Contender> {
    const { weight, scales } = this.table(problem.table)
    const inputs = this.#inputs(problem)
    const dy = this.device.tensor(problem.dy, [problem.tokens, problem.table.dim])
    const run = (set: number) =>
      ops.embeddingBagBackward(dy, weight, inputs[set]!.indices, inputs[set]!.weights, {
        scales,
        needs: { table: false },
      }).dWeights!
    return {
      run: (set) => run(set).dispose(),
      wait: this.wait,
      result: async () => ({ dWeights: await run(0).data() }),
      release: () => dispose(dy, ...inputs.flatMap((r) => [r.indices, r.weights])),
    }
  }

  async update(problem: UpdateProblem): Promise<Contender> {
    const { slots, dim, data } = problem.table
    const table = new ValueTable(this.device, { slots, dim })
    table.weight.write(data)
    const optimizer = optimizers[problem.rule](tableParameter('values', table))
    const inputs = this.#inputs(problem)
    const dy = this.device.tensor(problem.dy, [problem.tokens, dim])
    const run = (set: number) => {
      const { indices, weights } = inputs[set]!
      native.tablePush(
        table.handle,
        indices.handle('bench', 'indices'),
        weights.handle('bench', 'weights'),
        dy.handle('bench', 'dy'),
      )
      optimizer.step()
      optimizer.zeroGrad()
    }
    return {
      run,
      wait: this.wait,
      result: async () => {
        run(0)
        const rows = new Float32Array(problem.sample.length * dim)
        for (const [i, row] of problem.sample.entries()) {
          const one = table.weight.rows(row, row + 1)
          rows.set(await one.data(), i * dim)
          one.dispose()
        }
        return { rows }
      },
      release: () => {
        optimizer.dispose()
        table.dispose()
        dispose(dy, ...inputs.flatMap((r) => [r.indices, r.weights]))
        this.wait()
      },
    }
  }

  #lookupInputs({ shape: { tokens, heads, half, nKeys }, keys, queries }: LookupProblem) {
    return {
      keys: this.device.tensor(keys, [heads, 2, nKeys, half]),
      queries: queries.map((q) => this.device.tensor(q, [tokens, heads, 2, half])),
    }
  }

  async lookup(problem: LookupProblem): Promise<Contender> {
    const { keys, queries } = this.#lookupInputs(problem)
    const run = (set: number) =>
      ops.productKeyLookup(queries[set]!, keys, { knn: problem.shape.knn })
    return {
      run: (set) => {
        const r = run(set)
        dispose(r.indices, r.scores, r.weights)
      },
      wait: this.wait,
      result: async () => {
        const r = run(0)
        return { indices: await r.indices.data(), weights: await r.weights.data() }
      },
      release: () => dispose(keys, ...queries),
    }
  }

  /** The first step of the lookup alone: half scores of every query, stored. */
  async halfScores(problem: LookupProblem): Promise<Contender> {
    const { keys, queries } = this.#lookupInputs(problem)
    const { tokens, heads, nKeys } = problem.shape
    const out = this.device.empty([tokens, heads, 2, nKeys])
    const run = (set: number) => ops.productKeyScores(queries[set]!, keys, { out })
    return {
      run,
      wait: this.wait,
      result: async () => ({ scores: await run(0).data() }),
      release: () => dispose(out, keys, ...queries),
    }
  }

  async gemm({ shape, product, weight, inputs, dy }: GemmProblem): Promise<Contender> {
    const { rows, inner, columns } = shape
    const w = this.device.tensor(weight, [columns, inner])
    const xs = inputs.map((x) => this.device.tensor(x, [rows, inner]))
    const grad = this.device.tensor(dy, [rows, columns])
    const out = this.device.zeros(
      { y: [rows, columns], dx: [rows, inner], dw: [columns, inner] }[product],
    )
    const runs = {
      y: (x: Tensor) => ops.linear(x, w, undefined, { out }),
      dx: (x: Tensor) =>
        ops.linearBackward(grad, x, w, { out: { dx: out }, needs: { weight: false, bias: false } }),
      dw: (x: Tensor) =>
        ops.linearBackward(grad, x, w, { into: { weight: out }, needs: { x: false, bias: false } }),
    }
    const run = (set: number) => void runs[product](xs[set]!)
    return {
      run,
      wait: this.wait,
      result: async () => {
        run(0)
        return { out: await out.data() }
      },
      release: () => dispose(out, w, grad, ...xs),
    }
  }

  forget(): void {
    for (const { weight, scales } of this.#tables.values()) {
      weight.dispose()
      scales?.dispose()
    }
    this.#tables.clear()
    this.wait()
  }
}

function dispose(...tensors: readonly Tensor[]): void {
  for (const tensor of tensors) tensor.dispose()
}

// The loops a TypeScript programmer writes without any package.

import type { Contender } from '../harness.js'
import type { TokenShape } from '../shapes.js'
import {
  adagradEps,
  type Backend,
  type BagProblem,
  type BagWeightsProblem,
  type GemmProblem,
  type LookupProblem,
  lr,
  mostWorkOfSlow,
  type TokenProblem,
  type UpdateProblem,
} from './backend.js'

export class Plain implements Backend {
  readonly name = 'plain TypeScript'
  readonly threads = 1

  async bag({ table, tokens, bag, sets }: BagProblem): Promise<Contender | undefined> {
    if (table.dtype !== 'float32' || tokens * bag * table.dim > mostWorkOfSlow) return undefined
    const { data, dim } = table
    const y = new Float32Array(tokens * dim)
    const run = (set: number) => {
      const { indices, weights } = sets[set]!
      y.fill(0)
      for (let t = 0; t < tokens; t++)
        for (let l = 0; l < bag; l++) {
          const w = weights[t * bag + l]!
          const from = indices[t * bag + l]! * dim
          const to = t * dim
          for (let c = 0; c < dim; c++) y[to + c]! += w * data[from + c]!
        }
    }
    return { run, result: () => after(run, { y }) }
  }

  async bagWeights({
    table,
    tokens,
    bag,
    sets,
    dy,
  }: BagWeightsProblem): Promise<Contender | undefined> {
    if (table.dtype !== 'float32' || tokens * bag * table.dim > mostWorkOfSlow) return undefined
    const { data, dim } = table
    const dWeights = new Float32Array(tokens * bag)
    const run = (set: number) => {
      const { indices } = sets[set]!
      for (let t = 0; t < tokens; t++)
        for (let l = 0; l < bag; l++) {
          const from = indices[t * bag + l]! * dim
          let sum = 0
          for (let c = 0; c < dim; c++) sum += dy[t * dim + c]! * data[from + c]!
          dWeights[t * bag + l] = sum
        }
    }
    return { run, result: () => after(run, { dWeights }) }
  }

  /**
   * Sums each touched row's gradient in a slot of its own, then applies the rule to it. Not AdamW:
   * its states would take the memory.
   */
  async update(problem: UpdateProblem): Promise<Contender | undefined> {
    const { tokens, bag, sets, dy, rule, sample } = problem
    const { slots, dim } = problem.table
    if (rule === 'adamw' || tokens * bag * dim > mostWorkOfSlow) return undefined
    const table = (problem.table.data as Float32Array).slice()
    const slotOf = new Int32Array(slots).fill(-1)
    const rows = new Int32Array(tokens * bag)
    const gradient = new Float32Array(tokens * bag * dim)
    const v = new Float32Array(slots)
    const run = (set: number) => {
      const { indices, weights } = sets[set]!
      let count = 0
      for (let t = 0; t < tokens; t++)
        for (let l = 0; l < bag; l++) {
          const row = indices[t * bag + l]!
          const w = weights[t * bag + l]!
          let slot = slotOf[row]!
          if (slot < 0) {
            slot = count++
            slotOf[row] = slot
            rows[slot] = row
            gradient.fill(0, slot * dim, (slot + 1) * dim)
          }
          for (let c = 0; c < dim; c++) gradient[slot * dim + c]! += w * dy[t * dim + c]!
        }
      for (let slot = 0; slot < count; slot++) {
        const row = rows[slot]!
        slotOf[row] = -1
        const g = slot * dim
        const x = row * dim
        if (rule === 'sgd') {
          for (let c = 0; c < dim; c++) table[x + c]! -= lr * gradient[g + c]!
        } else {
          let square = 0
          for (let c = 0; c < dim; c++) square += gradient[g + c]! ** 2
          v[row]! += square / dim
          const scale = lr / (Math.sqrt(v[row]!) + adagradEps)
          for (let c = 0; c < dim; c++) table[x + c]! -= scale * gradient[g + c]!
        }
      }
    }
    return {
      run,
      result: () => {
        run(0)
        return { rows: rowsOf(table, dim, sample) }
      },
    }
  }

  async lookup({
    shape: { tokens, heads, knn, half, nKeys },
    keys,
    queries,
  }: LookupProblem): Promise<Contender | undefined> {
    if (2 * tokens * heads * nKeys * half > 2 * mostWorkOfSlow) return undefined
    const indices = new Int32Array(tokens * heads * knn)
    const weights = new Float32Array(tokens * heads * knn)
    const lookup = headLookup({ knn, half, nKeys }, keys)
    const run = (set: number) => {
      for (let t = 0; t < tokens; t++)
        for (let h = 0; h < heads; h++) {
          const { slots, weights: w } = lookup(h, queries[set]!, (t * heads + h) * 2 * half)
          indices.set(slots, (t * heads + h) * knn)
          weights.set(w, (t * heads + h) * knn)
        }
    }
    return { run, result: () => after(run, { indices, weights }) }
  }

  async token({ shape, state, inputs }: TokenProblem): Promise<Contender> {
    const run = (set: number) => oneToken(shape, state, inputs[set]!)
    return { run, result: () => ({ y: run(0).y }) }
  }

  async gemm({
    shape: { rows, inner, columns },
    weight,
    inputs,
  }: GemmProblem): Promise<Contender | undefined> {
    if (rows * inner * columns > 2 * mostWorkOfSlow) return undefined
    const y = new Float32Array(rows * columns)
    const run = (set: number) => {
      const x = inputs[set]!
      for (let r = 0; r < rows; r++)
        for (let o = 0; o < columns; o++) {
          let sum = 0
          for (let i = 0; i < inner; i++) sum += x[r * inner + i]! * weight[o * inner + i]!
          y[r * columns + o] = sum
        }
    }
    return { run, result: () => after(run, { y }) }
  }
}

/** One token through a layer with gate: the output, and the rows it read. */
export function oneToken(
  { heads, knn, keyDim, nKeys }: Omit<TokenShape, 'inputDim'>,
  state: Record<string, Float32Array>,
  x: Float32Array,
) {
  const half = keyDim / 2
  const query = affine(state, 'query_proj.query_mlps.0', x)
  const rows = new Int32Array(heads * knn)
  const values = state['values.weight']!
  const width = values.length / nKeys ** 2
  const y = new Float32Array(width)
  const lookup = headLookup({ knn, half, nKeys }, state['keys']!)
  for (let h = 0; h < heads; h++) {
    const { slots, weights } = lookup(h, query, h * 2 * half)
    for (let r = 0; r < knn; r++)
      for (let c = 0; c < width; c++) y[c]! += weights[r]! * values[slots[r]! * width + c]!
    rows.set(slots, h * knn)
  }
  const gate = affine(state, 'swilu_projection', x)
  for (let c = 0; c < width; c++) y[c]! *= gate[c]! / (1 + Math.exp(-gate[c]!))
  return { y: affine(state, 'value_proj', y), rows }
}

/**
 * The product-key lookup of one head, whose query begins at `at`. Its answers are overwritten by
 * the next call.
 */
function headLookup(
  { knn, half, nKeys }: { knn: number; half: number; nKeys: number },
  keys: Float32Array,
) {
  const best = [new Int32Array(knn), new Int32Array(knn)] as const
  const value = [new Float32Array(knn), new Float32Array(knn)] as const
  const scores = new Float32Array(nKeys)
  const sums = new Float32Array(knn)
  const slots = new Int32Array(knn)
  const weights = new Float32Array(knn)
  return (head: number, query: Float32Array, at: number) => {
    for (const p of [0, 1] as const) {
      for (let j = 0; j < nKeys; j++) {
        const key = ((head * 2 + p) * nKeys + j) * half
        let sum = 0
        for (let c = 0; c < half; c++) sum += query[at + p * half + c]! * keys[key + c]!
        scores[j] = sum
      }
      keepBest(
        nKeys,
        (j) => scores[j]!,
        (j) => j,
        value[p],
        best[p],
      )
    }
    const combine = (i: number) => value[0][Math.floor(i / knn)]! + value[1][i % knn]!
    keepBest(
      knn * knn,
      combine,
      (i) => best[0][Math.floor(i / knn)]! * nKeys + best[1][i % knn]!,
      sums,
      slots,
    )
    let sum = 0
    for (let r = 0; r < knn; r++) sum += Math.exp(sums[r]! - sums[0]!)
    for (let r = 0; r < knn; r++) weights[r] = Math.exp(sums[r]! - sums[0]!) / sum
    return { slots, weights }
  }
}

function affine(state: Record<string, Float32Array>, name: string, x: Float32Array): Float32Array {
  const weight = state[`${name}.weight`]!
  return state[`${name}.bias`]!.map((bias, o) => {
    let sum = bias
    for (let i = 0; i < x.length; i++) sum += x[i]! * weight[o * x.length + i]!
    return sum
  })
}

/** What a contender's result is: its output after set 0. */
function after<R>(run: (set: number) => void, output: R): R {
  run(0)
  return output
}

/** The greatest `values.length` of n, sorted, by insertion. */
function keepBest(
  n: number,
  score: (i: number) => number,
  name: (i: number) => number,
  values: Float32Array,
  names: Int32Array,
): void {
  const k = values.length
  let count = 0
  for (let i = 0; i < n; i++) {
    const s = score(i)
    if (count === k && s <= values[k - 1]!) continue
    let at = count < k ? count++ : k - 1
    for (; at > 0 && values[at - 1]! < s; at--) {
      values[at] = values[at - 1]!
      names[at] = names[at - 1]!
    }
    values[at] = s
    names[at] = name(i)
  }
}

function rowsOf(table: Float32Array, dim: number, sample: Int32Array): Float32Array {
  const rows = new Float32Array(sample.length * dim)
  for (const [i, row] of sample.entries())
    rows.set(table.subarray(row * dim, (row + 1) * dim), i * dim)
  return rows
}

// Embedding bag forward, the gradient of its weights, and the table's gradient with the optimizer.

import {
  adagradEps,
  adam,
  type BagProblem,
  type BagWeightsProblem,
  lr,
  type Rule,
  rules,
  type UpdateProblem,
} from '../backends/backend.js'
import { Ceiling, touched } from '../backends/ceiling.js'
import { bytesOf, decoder, drawRows, type HostTable, uniform } from '../data.js'
import { type Entrant, expectNear, type Result } from '../harness.js'
import {
  type Distribution,
  distributions,
  type Shapes,
  type TableDType,
  type TableShape,
} from '../shapes.js'
import { type Case, contest, type Environment, setsFor, spread } from './case.js'

interface Spec extends TableShape {
  dtype: TableDType
  tokens: number
  bag: number
  distribution: Distribution
}

const nameOf = (s: Spec) => `${s.slots}x${s.dim}/${s.dtype}/${s.tokens}x${s.bag}/${s.distribution}`

function problemOf(env: Environment, s: Spec): BagWeightsProblem {
  const count = s.tokens * s.bag
  const rowBytes = s.dim * bytesOf[s.dtype]
  const sets = Array.from({ length: setsFor(count * rowBytes) }, (_, i) => ({
    indices: drawRows(s.distribution, count, s.slots, 100 + i),
    weights: uniform(count, 200 + i),
  }))
  const { tokens, bag, distribution } = s
  return {
    table: env.table(s.slots, s.dim, s.dtype),
    tokens,
    bag,
    distribution,
    sets,
    dy: uniform(tokens * s.dim, 300),
  }
}

// A contender may compute in float16 where the table is float16.
const tolerance = (dtype: TableDType) => (dtype === 'float32' || dtype === 'int8' ? 1e-4 : 2e-2)

function checkBag({ table, tokens, bag, sets }: BagProblem, result: Result): void {
  const at = decoder(table)
  const { indices, weights } = sets[0]!
  for (const t of spread(tokens, 64)) {
    const wanted = new Float64Array(table.dim)
    for (let l = t * bag; l < (t + 1) * bag; l++)
      for (let c = 0; c < table.dim; c++)
        wanted[c]! += weights[l]! * at(indices[l]! * table.dim + c)
    expectNear(
      `y of token ${t}`,
      Array.prototype.slice.call(result['y'] ?? [], t * table.dim, (t + 1) * table.dim),
      wanted,
      tolerance(table.dtype),
    )
  }
}

function checkWeights({ table, tokens, bag, sets, dy }: BagWeightsProblem, result: Result): void {
  const at = decoder(table)
  const { indices } = sets[0]!
  for (const t of spread(tokens, 64)) {
    const wanted = new Float64Array(bag)
    for (let l = 0; l < bag; l++)
      for (let c = 0; c < table.dim; c++)
        wanted[l]! += dy[t * table.dim + c]! * at(indices[t * bag + l]! * table.dim + c)
    expectNear(
      `dWeights of token ${t}`,
      Array.prototype.slice.call(result['dWeights'] ?? [], t * bag, (t + 1) * bag),
      wanted,
      tolerance(table.dtype),
    )
  }
}

type Formula = (x: number, g: number, meanSquare: number) => number

const oneRow: Record<Rule, Formula> = {
  sgd: (x, g) => x - lr * g,
  rowwiseAdagrad: (x, g, meanSquare) => x - (lr * g) / (Math.sqrt(meanSquare) + adagradEps),
  // the first step: both moments are corrected to g and g^2
  adamw: (x, g) => x - (lr * g) / (Math.abs(g) + adam.eps),
}

// PyTorch's Adagrad has a sum for each element, and its SparseAdam adds eps before the correction.
const pyTorchRow: Record<Rule, Formula> = {
  sgd: oneRow.sgd,
  rowwiseAdagrad: (x, g) => x - (lr * g) / (Math.abs(g) + adagradEps),
  adamw: (x, g) => x - (lr * g) / (Math.abs(g) + adam.eps / Math.sqrt(1 - adam.beta2)),
}

/** The sampled rows after one step from fresh states, in float64. */
function wantedRows(
  { table, tokens, bag, sets, dy, rule, sample }: UpdateProblem,
  formula = oneRow[rule],
): Float64Array {
  const { indices, weights } = sets[0]!
  const { dim } = table
  const wanted = new Float64Array(sample.length * dim)
  const placeOf = new Map(Array.from(sample, (row, i) => [row, i]))
  const gradient = new Float64Array(sample.length * dim)
  for (let t = 0; t < tokens; t++)
    for (let l = t * bag; l < (t + 1) * bag; l++) {
      const i = placeOf.get(indices[l]!)
      if (i === undefined) continue
      for (let c = 0; c < dim; c++) gradient[i * dim + c]! += weights[l]! * dy[t * dim + c]!
    }
  for (let i = 0; i < sample.length; i++) {
    const g = gradient.subarray(i * dim, (i + 1) * dim)
    const read = g.some((x) => x !== 0)
    const meanSquare = g.reduce((sum, x) => sum + x * x, 0) / dim
    for (let c = 0; c < dim; c++) {
      const x = (table.data as Float32Array)[sample[i]! * dim + c]!
      wanted[i * dim + c] = read ? formula(x, g[c]!, meanSquare) : x
    }
  }
  return wanted
}

const rowBytes = (table: HostTable) => table.dim * bytesOf[table.dtype]

const pageBytes = 4096

/**
 * Wide rows, one after another, by the first cache alone: what the bag is to beat, since it need
 * not walk a row from end to end.
 */
const rowByRow = (ceiling: Ceiling, problem: BagProblem): Entrant => ({
  name: 'whole rows by the first cache',
  threads: ceiling.threads,
  contender: ceiling.bagByFirst(problem),
})

/** The bag, or the gradient of its weights: both read every row once. */
function readCase(s: Spec, what: 'bag' | 'dweights'): Case {
  const name = `${what}/${nameOf(s)}`
  return {
    name,
    resident: `${s.slots}x${s.dim}/${s.dtype}`,
    async run(env) {
      const problem = problemOf(env, s)
      const wide = what === 'bag' && rowBytes(problem.table) >= pageBytes
      const r = await contest(
        env,
        problem.sets.length,
        problem,
        (b, p) => (what === 'bag' ? b.bag?.(p) : b.bagWeights?.(p)),
        (result) => (what === 'bag' ? checkBag(problem, result) : checkWeights(problem, result)),
        wide
          ? env.backends.flatMap((b) => (b instanceof Ceiling ? [rowByRow(b, problem)] : []))
          : [],
      )
      return {
        name,
        unit: 'GB/s',
        work: s.tokens * s.bag * rowBytes(problem.table),
        of: 'rows read',
        ...r,
      }
    },
  }
}

function updateCase(s: Spec, rule: Rule): Case {
  const name = `update/${rule}/${nameOf(s)}`
  return {
    name,
    resident: name,
    async run(env) {
      const read = problemOf(env, s)
      const { table, sets } = read
      const rows = sets.map((set) => touched(set.indices))
      const untouched = new Set(rows[0]!)
      const spare = Array.from({ length: s.slots }, (_, i) => i).find((row) => !untouched.has(row))
      const sampled = spread(rows[0]!.length, 40).map((i) => rows[0]![i]!)
      // The most read row is among them.
      const most = mostRead(sets[0]!.indices, s.slots)
      const sample = Int32Array.from(
        new Set([...sampled, most, ...(spare === undefined ? [] : [spare])]),
      )
      const problem: UpdateProblem = { ...read, rule, sample }
      const wanted = wantedRows(problem)
      const wantedOfPyTorch = wantedRows(problem, pyTorchRow[rule])
      const r = await contest(
        env,
        sets.length,
        problem,
        (b, p) => b.update?.(p),
        (result, name) =>
          expectNear(
            'the updated rows',
            result['rows'],
            name === 'PyTorch' ? wantedOfPyTorch : wanted,
            1e-4,
          ),
      )
      const mean = rows.reduce((sum, list) => sum + list.length, 0) / rows.length
      const parts = rule === 'adamw' ? 3 : 1
      const work = 2 * parts * mean * rowBytes(table)
      return {
        name,
        unit: 'GB/s',
        work,
        of:
          parts === 1
            ? 'touched rows read and written'
            : 'touched rows and states read and written',
        notes: { touchedRows: mean },
        ...r,
      }
    },
  }
}

function mostRead(indices: Int32Array, slots: number): number {
  const count = new Int32Array(slots)
  let most = indices[0]!
  for (const row of indices) if (++count[row]! > count[most]!) most = row
  return most
}

export function bagCases(shapes: Shapes): Case[] {
  const specs = (tables: readonly TableShape[], dtypes: readonly TableDType[]): Spec[] =>
    tables.flatMap((table) =>
      dtypes.flatMap((dtype) =>
        shapes.tokens.flatMap((tokens) =>
          shapes.bags.flatMap((bag) =>
            distributions.map((distribution) => ({ ...table, dtype, tokens, bag, distribution })),
          ),
        ),
      ),
    )
  const first = shapes.tables.slice(0, 1)
  const longest = (s: Spec) => s.bag === Math.max(...shapes.bags)
  const reads = shapes.tables.flatMap((table) => {
    const all = specs([table], ['float32'])
    return [
      ...all.map((s) => readCase(s, 'bag')),
      ...all.filter(longest).map((s) => readCase(s, 'dweights')),
    ]
  })
  return [
    ...reads,
    ...specs(first, shapes.narrow).map((s) => readCase(s, 'bag')),
    ...rules.flatMap((rule) =>
      specs(first, ['float32'])
        .filter(longest)
        .map((s) => updateCase(s, rule)),
    ),
    ...specs(shapes.tables.slice(1), ['float32'])
      .filter((s) => longest(s) && s.tokens === Math.min(...shapes.tokens))
      .map((s) => updateCase(s, 'rowwiseAdagrad')),
  ]
}

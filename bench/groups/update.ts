// The table's gradient with the optimizer.

import { adagradEps, adam, lr, type Rule, rules, type UpdateProblem } from '../backends/backend.js'
import { tablesOf, touched } from '../backends/ceiling.js'
import { expectNear, spaced } from '../check.js'
import { decodedRows, rowBytesOf } from '../data.js'
import {
  adagrad,
  adamw,
  embeddingBagBackward,
  fixedOffsets,
  OptimizedParameter,
  rowwiseAdagrad,
  sgd,
  type UpdateRule,
} from '../reference.js'
import type { Shapes } from '../shapes.js'
import { type BagShape, bagShapes, nameOf, problemOf } from './bag.js'
import { type Case, compare } from './case.js'

type RuleAndEps = readonly [rule: UpdateRule, eps: number]

const ourRules: Record<Rule, RuleAndEps> = {
  sgd: [sgd, 0],
  rowwiseAdagrad: [rowwiseAdagrad, adagradEps],
  adamw: [adamw, adam.eps],
}

// PyTorch's Adagrad has a sum for each element, and its SparseAdam adds eps before the correction.
const pyTorchRules: Record<Rule, RuleAndEps> = {
  sgd: ourRules.sgd,
  rowwiseAdagrad: [adagrad, adagradEps],
  adamw: [adamw, adam.eps / Math.sqrt(1 - adam.beta2)],
}

/** The sampled rows after one step from fresh states. */
function updatedRows(
  { table, tokens, bag, sets, dy, sample }: UpdateProblem,
  [rule, eps]: RuleAndEps,
): Float64Array {
  const { dim } = table
  // The table of the reference holds the sampled rows; the entries of others are padding.
  const position = new Map(Array.from(sample, (row, i) => [row, i]))
  const { indices, weights } = sets[0]!
  const bags = {
    indices: indices.map((row) => position.get(row) ?? -1),
    weights,
    offsets: fixedOffsets(tokens, bag),
  }
  const rows = decodedRows(table, sample)
  const { dTable } = embeddingBagBackward(dy, rows, dim, bags)
  const parameter = new OptimizedParameter(rows, dim)
  const hyper = { lr, eps, betas: [adam.beta1, adam.beta2] as const }
  parameter.update(rule, dTable, hyper, 1, new Set(bags.indices.filter((i) => i >= 0)))
  return parameter.x
}

/** Touched rows of set 0, the most read one among them, and one that is not touched. */
function sampledRows(indices: Int32Array, slots: number): Int32Array {
  const rows = touched(indices)
  const sample = new Set(spaced(rows.length, 40).map((i) => rows[i]!))
  const count = new Int32Array(slots)
  for (const row of indices) count[row]!++
  sample.add(rows.reduce((a, b) => (count[b]! > count[a]! ? b : a)))
  const spare = count.indexOf(0)
  if (spare >= 0) sample.add(spare)
  return Int32Array.from(sample)
}

function updateCase(s: BagShape, rule: Rule): Case {
  const name = `update/${rule}/${nameOf(s)}`
  return {
    name,
    resident: name,
    async run(env) {
      const bags = await problemOf(env, s)
      const { sets, table } = bags
      const sample = sampledRows(sets[0]!.indices, s.slots)
      const problem: UpdateProblem = { ...bags, rule, sample }
      const ours = updatedRows(problem, ourRules[rule])
      const pyTorch = updatedRows(problem, pyTorchRules[rule])
      const times = await compare(
        env,
        sets.length,
        (backend) => backend.update?.(problem),
        ({ rows }, contender) =>
          expectNear('the updated rows', rows, contender === 'PyTorch' ? pyTorch : ours, 1e-4),
      )
      const counts = sets.map(({ indices }) => touched(indices).length)
      const touchedRows = counts.reduce((a, b) => a + b) / sets.length
      const work = 2 * tablesOf[rule] * touchedRows * rowBytesOf(table)
      return { name, unit: 'GB/s', work, notes: { touchedRows }, ...times }
    },
  }
}

export function updateCases(shapes: Shapes): Case[] {
  const longest = [Math.max(...shapes.bags)]
  const [first, ...others] = shapes.tables
  const fewest = { ...shapes, tokens: [Math.min(...shapes.tokens)] }
  return [
    ...rules.flatMap((rule) =>
      bagShapes(shapes, [first!], ['float32'], longest).map((s) => updateCase(s, rule)),
    ),
    ...bagShapes(fewest, others, ['float32'], longest).map((s) => updateCase(s, 'rowwiseAdagrad')),
  ]
}

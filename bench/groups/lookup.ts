// Product-key lookup, beside its own products alone.

import type { LookupProblem } from '../backends/backend.js'
import { uniform } from '../data.js'
import { type Entrant, expectNear, type Result, WrongResult } from '../harness.js'
import type { LookupShape, Shapes } from '../shapes.js'
import { type Case, contest, type Environment, spread } from './case.js'

const inputSets = 3

function problemOf(shape: LookupShape): LookupProblem {
  const { tokens, heads, half, nKeys } = shape
  return {
    shape,
    keys: uniform(heads * 2 * nKeys * half, 400),
    // Scores of about unit size, so that the softmax is neither flat nor a single spike.
    queries: Array.from({ length: inputSets }, (_, i) =>
      uniform(tokens * heads * 2 * half, 500 + i, 3 / Math.sqrt(half)),
    ),
  }
}

const halfScore = (
  { shape: { heads, half, nKeys }, keys, queries }: LookupProblem,
  t: number,
  h: number,
  p: number,
  j: number,
) => {
  let sum = 0
  const q = ((t * heads + h) * 2 + p) * half
  const key = ((h * 2 + p) * nKeys + j) * half
  for (let c = 0; c < half; c++) sum += queries[0]![q + c]! * keys[key + c]!
  return sum
}

/**
 * For sampled tokens: the scores of the slots found are, rank by rank, the best of all pairs in
 * float64, no slot is found twice, and the weights are their softmax. Slots whose scores differ by
 * rounding may change places.
 */
function check(problem: LookupProblem, result: Result): void {
  const { tokens, heads, knn, nKeys } = problem.shape
  const { indices, weights } = result
  if (indices?.length !== tokens * heads * knn)
    throw new WrongResult(`indices have ${indices?.length} numbers, wanted ${tokens * heads * knn}`)
  for (const t of spread(tokens, 8))
    for (let h = 0; h < heads; h++) {
      const scores = [0, 1].map((p) =>
        Array.from({ length: nKeys }, (_, j) => halfScore(problem, t, h, p, j)),
      ) as [number[], number[]]
      const halves = scores.map((list) => [...list].sort((a, b) => b - a).slice(0, knn)) as [
        number[],
        number[],
      ]
      const wanted = halves[0]
        .flatMap((a) => halves[1].map((b) => a + b))
        .sort((a, b) => b - a)
        .slice(0, knn)
      const at = (t * heads + h) * knn
      const slots = Array.from({ length: knn }, (_, r) => Number(indices[at + r]))
      if (new Set(slots).size !== knn || slots.some((s) => !(s >= 0 && s < nKeys * nKeys)))
        throw new WrongResult(`slots of token ${t}, head ${h}: ${slots}`)
      const got = slots.map((s) => scores[0][Math.floor(s / nKeys)]! + scores[1][s % nKeys]!)
      expectNear(`scores of token ${t}, head ${h}`, got, wanted, 1e-5)
      const exps = wanted.map((s) => Math.exp(s - wanted[0]!))
      const sum = exps.reduce((a, b) => a + b, 0)
      expectNear(
        `weights of token ${t}, head ${h}`,
        Array.from({ length: knn }, (_, r) => weights?.[at + r] ?? Number.NaN),
        exps.map((e) => e / sum),
        1e-4,
      )
    }
}

function checkScores(problem: LookupProblem, result: Result): void {
  const { tokens, heads, nKeys } = problem.shape
  const { scores } = result
  const rows = spread(tokens, 4).flatMap((t) =>
    Array.from({ length: heads * 2 }, (_, hp) => [t, hp] as const),
  )
  for (const [t, hp] of rows) {
    const wanted = Array.from({ length: nKeys }, (_, j) =>
      halfScore(problem, t, hp >> 1, hp & 1, j),
    )
    const at = (t * heads * 2 + hp) * nKeys
    expectNear(
      `half scores of token ${t}`,
      Array.prototype.slice.call(scores ?? [], at, at + nKeys),
      wanted,
      1e-5,
    )
  }
}

function lookupCase(shape: LookupShape): Case {
  const name = `lookup/${shape.tokens}/half ${shape.half}/n ${shape.nKeys}`
  return {
    name,
    resident: 'none',
    async run(env: Environment) {
      const problem = problemOf(shape)
      const products: Entrant[] = []
      for (const ours of env.ours) {
        const contender = await ours.scores(problem)
        checkScores(problem, await contender.result())
        products.push({ name: 'its own products alone', threads: ours.threads, contender })
      }
      const r = await contest(
        env,
        inputSets,
        problem,
        (b, p) => b.lookup?.(p),
        (result) => check(problem, result),
        products,
      )
      const { tokens, heads, nKeys, half } = shape
      return {
        name,
        unit: 'GFLOP/s',
        work: 4 * tokens * heads * nKeys * half,
        of: 'products of the half scores',
        ...r,
      }
    },
  }
}

export const lookupCases = (shapes: Shapes): Case[] => shapes.lookups.map(lookupCase)

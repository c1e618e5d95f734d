// Product-key lookup, beside its half scores alone.

import type { LookupProblem } from '../backends/backend.js'
import { expectNear, rowsOf, spaced, WrongResult } from '../check.js'
import { uniform } from '../data.js'
import type { Participant, Result } from '../harness.js'
import { halfScores, lookup } from '../reference.js'
import type { LookupShape, Shapes } from '../shapes.js'
import { type Case, compare } from './case.js'

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

/** The reference for sampled tokens of set 0. */
function referenceOf({ shape, keys, queries }: LookupProblem) {
  const { tokens, heads, half, nKeys, knn } = shape
  const sample = spaced(tokens, 8)
  const T = sample.length
  const reference = { T, H: heads, n: nKeys, d: half, k: knn }
  const scores = halfScores(rowsOf(queries[0]!, heads * 2 * half, sample), keys, reference)
  return { sample, scores, found: lookup(scores, reference, 'softmax') }
}

/**
 * For sampled tokens: the scores of the slots found are, rank by rank, those of the best pairs in
 * float64, no slot is found twice, and the weights are their softmax. Slots whose scores differ by
 * rounding may swap ranks.
 */
function check(
  { heads, knn, nKeys }: LookupShape,
  { sample, scores, found }: ReturnType<typeof referenceOf>,
  result: Result,
): void {
  const slots = rowsOf(result['indices'], heads * knn, sample)
  const got = slots.map((slot, i) => {
    const row = Math.floor(i / knn) * 2 * nKeys // of the half scores [T, H, 2, n]
    return scores[row + Math.floor(slot / nKeys)]! + scores[row + nKeys + (slot % nKeys)]!
  })
  expectNear('scores of the slots found', got, found.scores, 1e-5)
  for (let i = 0; i < slots.length; i += knn) {
    const list = slots.subarray(i, i + knn)
    if (new Set(list).size !== knn || list.some((slot) => !(slot >= 0 && slot < nKeys ** 2)))
      throw new WrongResult(`the slots are not ${knn} different ones: ${list}`)
  }
  expectNear('weights', rowsOf(result['weights'], heads * knn, sample), found.weights, 1e-4)
}

function lookupCase(shape: LookupShape): Case {
  const { tokens, heads, nKeys, half } = shape
  const name = `lookup/${tokens}/half ${half}/n ${nKeys}`
  return {
    name,
    resident: 'none',
    async run(env) {
      const problem = problemOf(shape)
      const reference = referenceOf(problem)
      const halfScoresAlone: Participant[] = []
      for (const ours of env.ours) {
        const contender = await ours.halfScores(problem)
        const { scores } = await contender.result()
        const got = rowsOf(scores, heads * 2 * nKeys, reference.sample)
        expectNear('half scores', got, reference.scores, 1e-5)
        halfScoresAlone.push({ name: 'half scores alone', threads: ours.threads, contender })
      }
      const times = await compare(
        env,
        inputSets,
        (backend) => backend.lookup?.(problem),
        (result) => check(shape, reference, result),
        halfScoresAlone,
      )
      return { name, unit: 'GFLOP/s', work: 4 * tokens * heads * nKeys * half, ...times }
    },
  }
}

export const lookupCases = (shapes: Shapes): Case[] => shapes.lookups.map(lookupCase)

// Dense products at the layers' shapes.

import type { GemmProblem } from '../backends/backend.js'
import { expectNear, rowsOf, spaced } from '../check.js'
import { uniform } from '../data.js'
import { linear } from '../reference.js'
import type { GemmShape, Shapes } from '../shapes.js'
import { type Case, compare } from './case.js'

const inputSets = 3

function gemmCase(shape: GemmShape): Case {
  const { rows, inner, columns } = shape
  const name = `gemm/${rows}x${inner}x${columns}`
  return {
    name,
    resident: 'none',
    async run(env) {
      const inputs = Array.from({ length: inputSets }, (_, i) => uniform(rows * inner, 600 + i))
      const problem: GemmProblem = { shape, weight: uniform(columns * inner, 700), inputs }
      const sample = spaced(rows, 16)
      const x = rowsOf(inputs[0]!, inner, sample)
      const y = linear(x, problem.weight, undefined, sample.length, inner, columns)
      const times = await compare(
        env,
        inputSets,
        (backend) => backend.gemm?.(problem),
        (result) => expectNear('sampled rows of y', rowsOf(result['y'], columns, sample), y, 1e-4),
      )
      return { name, unit: 'GFLOP/s', work: 2 * rows * inner * columns, ...times }
    },
  }
}

export const gemmCases = (shapes: Shapes): Case[] => shapes.gemms.map(gemmCase)

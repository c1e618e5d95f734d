// Dense products at the layers' shapes.

import type { GemmProblem } from '../backends/backend.js'
import { uniform } from '../data.js'
import { expectNear, type Result } from '../harness.js'
import type { GemmShape, Shapes } from '../shapes.js'
import { type Case, contest, spread } from './case.js'

const inputSets = 3

function check(
  { shape: { rows, inner, columns }, weight, inputs }: GemmProblem,
  result: Result,
): void {
  for (const r of spread(rows, 16)) {
    const wanted = new Float64Array(columns)
    for (let o = 0; o < columns; o++)
      for (let i = 0; i < inner; i++)
        wanted[o]! += inputs[0]![r * inner + i]! * weight[o * inner + i]!
    expectNear(
      `row ${r} of the product`,
      Array.prototype.slice.call(result['y'] ?? [], r * columns, (r + 1) * columns),
      wanted,
      1e-4,
    )
  }
}

function gemmCase(shape: GemmShape): Case {
  const { rows, inner, columns } = shape
  const name = `gemm/${rows}x${inner}x${columns}`
  return {
    name,
    resident: 'none',
    async run(env) {
      const inputs = Array.from({ length: inputSets }, (_, i) => uniform(rows * inner, 600 + i))
      const problem: GemmProblem = { shape, weight: uniform(columns * inner, 700), inputs }
      const r = await contest(
        env,
        inputSets,
        problem,
        (b, p) => b.gemm?.(p),
        (result) => check(problem, result),
      )
      return {
        name,
        unit: 'GFLOP/s',
        work: 2 * rows * inner * columns,
        of: 'multiply-adds, two each',
        ...r,
      }
    },
  }
}

export const gemmCases = (shapes: Shapes): Case[] => shapes.gemms.map(gemmCase)

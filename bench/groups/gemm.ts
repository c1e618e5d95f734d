// Dense products at the layers' shapes: of a linear layer and its gradients.

import type { GemmProblem, Product } from '../backends/backend.js'
import { expectNear, rowsOf, spaced } from '../check.js'
import { uniform } from '../data.js'
import { linear } from '../reference.js'
import type { GemmShape, Shapes } from '../shapes.js'
import { type Case, compare } from './case.js'

const inputSets = 3

/** The transpose of a [rows, columns]. */
function transposed(a: Float32Array, rows: number, columns: number): Float32Array {
  const t = new Float32Array(a.length)
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) t[j * rows + i] = a[i * columns + j]!
  return t
}

/** Sampled rows of the product of set 0. */
function referenceOf({ shape, product, weight, inputs, dy }: GemmProblem) {
  const { rows, inner, columns } = shape
  const x = inputs[0]!
  // out = a b^T, with a [height, depth] and b [width, depth]
  const [a, b, height, depth, width] = {
    y: () => [x, weight, rows, inner, columns] as const,
    dx: () => [dy, transposed(weight, columns, inner), rows, columns, inner] as const,
    dw: () =>
      [transposed(dy, rows, columns), transposed(x, rows, inner), columns, rows, inner] as const,
  }[product]()
  const sample = spaced(height, 16)
  const out = linear(rowsOf(a, depth, sample), b, undefined, sample.length, depth, width)
  return { sample, width, out }
}

function gemmCase(shape: GemmShape, product: Product): Case {
  const { rows, inner, columns } = shape
  const name = `gemm/${product === 'y' ? '' : `${product}/`}${rows}x${inner}x${columns}`
  return {
    name,
    resident: 'none',
    async run(env) {
      const problem: GemmProblem = {
        shape,
        product,
        weight: uniform(columns * inner, 700),
        inputs: Array.from({ length: inputSets }, (_, i) => uniform(rows * inner, 600 + i)),
        dy: uniform(rows * columns, 800),
      }
      const { sample, width, out } = referenceOf(problem)
      const times = await compare(
        env,
        inputSets,
        (backend) => backend.gemm?.(problem),
        (result) =>
          expectNear(
            'sampled rows of the product',
            rowsOf(result['out'], width, sample),
            out,
            1e-4,
          ),
      )
      return { name, unit: 'GFLOP/s', work: 2 * rows * inner * columns, ...times }
    },
  }
}

export const gemmCases = (shapes: Shapes): Case[] =>
  (['y', 'dx', 'dw'] as const).flatMap((product) =>
    shapes.gemms.map((shape) => gemmCase(shape, product)),
  )

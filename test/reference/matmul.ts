// Products of matrices, the last two axes, in float64; the axes before them are broadcast.

import { broadcastShape, indicesOf, type NdArray, positionIn } from './arithmetic.js'

export interface Transposes {
  transposeX?: boolean
  transposeY?: boolean
}

interface Sizes {
  batch: number[]
  M: number
  N: number
  K: number
}

function sizesOf(x: NdArray, y: NdArray, { transposeX, transposeY }: Transposes): Sizes {
  const [rowsX, columnsX] = x.shape.slice(-2) as [number, number]
  const [rowsY, columnsY] = y.shape.slice(-2) as [number, number]
  return {
    batch: broadcastShape(x.shape.slice(0, -2), y.shape.slice(0, -2)),
    M: transposeX ? columnsX : rowsX,
    K: transposeX ? rowsX : columnsX,
    N: transposeY ? rowsY : columnsY,
  }
}

/** term(position in the result, in x, in y) for each product that is added. */
function eachTerm(
  x: NdArray,
  y: NdArray,
  transposes: Transposes,
  term: (out: number, x: number, y: number) => void,
): void {
  const { batch, M, N, K } = sizesOf(x, y, transposes)
  const at = (a: NdArray, indices: number[], row: number, column: number, transpose?: boolean) =>
    positionIn(a.shape, [...indices, ...(transpose ? [column, row] : [row, column])])
  const matrices = batch.reduce((a, b) => a * b, 1)
  for (let b = 0; b < matrices; b++) {
    const indices = indicesOf(batch, b)
    for (let m = 0; m < M; m++)
      for (let n = 0; n < N; n++)
        for (let k = 0; k < K; k++)
          term(
            (b * M + m) * N + n,
            at(x, indices, m, k, transposes.transposeX),
            at(y, indices, k, n, transposes.transposeY),
          )
  }
}

export function matmul(
  x: NdArray,
  y: NdArray,
  transposes: Transposes = {},
): { shape: number[]; data: Float64Array } {
  const { batch, M, N } = sizesOf(x, y, transposes)
  const shape = [...batch, M, N]
  const data = new Float64Array(shape.reduce((a, b) => a * b, 1))
  eachTerm(x, y, transposes, (out, i, j) => {
    data[out]! += x.data[i]! * y.data[j]!
  })
  return { shape, data }
}

export function matmulBackward(
  dOut: ArrayLike<number>,
  x: NdArray,
  y: NdArray,
  transposes: Transposes = {},
): { dx: Float64Array; dy: Float64Array } {
  const dx = new Float64Array(x.data.length)
  const dy = new Float64Array(y.data.length)
  eachTerm(x, y, transposes, (out, i, j) => {
    dx[i]! += dOut[out]! * y.data[j]!
    dy[j]! += dOut[out]! * x.data[i]!
  })
  return { dx, dy }
}

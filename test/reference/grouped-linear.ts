// Linear maps of groups of rows in float64: group g is rows offsets[g] … offsets[g + 1].
// x [R, I], weights [G, O, I], bias [G, O], y [R, O].

import * as dense from './linear.js'

type Numbers = Float64Array | Float32Array | readonly number[]

/** f(group, first row, last row) for each group. */
function forGroups(offsets: ArrayLike<number>, f: (g: number, begin: number, end: number) => void) {
  for (let g = 0; g + 1 < offsets.length; g++) f(g, offsets[g]!, offsets[g + 1]!)
}

export function groupedLinear(
  x: Numbers,
  weights: Numbers,
  offsets: ArrayLike<number>,
  bias: Numbers | undefined,
  I: number,
  O: number,
): Float64Array {
  const y = new Float64Array(offsets[offsets.length - 1]! * O)
  forGroups(offsets, (g, begin, end) => {
    const rows = x.slice(begin * I, end * I)
    const map = weights.slice(g * O * I, (g + 1) * O * I)
    const own = bias?.slice(g * O, (g + 1) * O)
    y.set(dense.linear(rows, map, own, end - begin, I, O), begin * O)
  })
  return y
}

export function groupedLinearBackward(
  dy: Numbers,
  x: Numbers,
  weights: Numbers,
  offsets: ArrayLike<number>,
  I: number,
  O: number,
) {
  const [R, G] = [offsets[offsets.length - 1]!, offsets.length - 1]
  const dx = new Float64Array(R * I)
  const dWeights = new Float64Array(G * O * I)
  const dBias = new Float64Array(G * O)
  forGroups(offsets, (g, begin, end) => {
    const own = dense.linearBackward(
      dy.slice(begin * O, end * O),
      x.slice(begin * I, end * I),
      weights.slice(g * O * I, (g + 1) * O * I),
      end - begin,
      I,
      O,
    )
    dx.set(own.dx, begin * I)
    dWeights.set(own.dWeight, g * O * I)
    dBias.set(own.dBias, g * O)
  })
  return { dx, dWeights, dBias }
}

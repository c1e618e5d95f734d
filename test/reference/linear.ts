// y = x W^T + b in float64: x [R, I], W [O, I], b [O], y [R, O].

export function linear(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number> | undefined,
  R: number,
  I: number,
  O: number,
): Float64Array {
  const y = new Float64Array(R * O)
  for (let r = 0; r < R; r++)
    for (let o = 0; o < O; o++) {
      let sum = bias?.[o] ?? 0
      for (let i = 0; i < I; i++) sum += x[r * I + i]! * weight[o * I + i]!
      y[r * O + o] = sum
    }
  return y
}

export function linearBackward(
  dy: ArrayLike<number>,
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  R: number,
  I: number,
  O: number,
) {
  const dx = new Float64Array(R * I)
  const dWeight = new Float64Array(O * I)
  const dBias = new Float64Array(O)
  for (let r = 0; r < R; r++)
    for (let o = 0; o < O; o++) {
      const g = dy[r * O + o]!
      dBias[o]! += g
      for (let i = 0; i < I; i++) {
        dx[r * I + i]! += g * weight[o * I + i]!
        dWeight[o * I + i]! += g * x[r * I + i]!
      }
    }
  return { dx, dWeight, dBias }
}

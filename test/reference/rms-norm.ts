// y = gain * x / sqrt(mean(x^2) + eps) over rows of n, in float64.

export function rmsNorm(
  x: ArrayLike<number>,
  gain: ArrayLike<number> | undefined,
  n: number,
  eps: number,
): Float64Array {
  const y = Float64Array.from(x)
  for (let begin = 0; begin < y.length; begin += n) {
    const row = y.subarray(begin, begin + n)
    let squares = 0
    for (const v of row) squares += v * v
    const rs = 1 / Math.sqrt(squares / n + eps)
    for (let i = 0; i < n; i++) row[i] = row[i]! * rs * (gain?.[i] ?? 1)
  }
  return y
}

export function rmsNormBackward(
  dy: ArrayLike<number>,
  x: ArrayLike<number>,
  gain: ArrayLike<number>,
  n: number,
  eps: number,
) {
  const dx = new Float64Array(x.length)
  const dGain = new Float64Array(n)
  for (let begin = 0; begin < x.length; begin += n) {
    let squares = 0
    let inner = 0
    for (let i = begin; i < begin + n; i++) {
      squares += x[i]! * x[i]!
      inner += x[i]! * gain[i - begin]! * dy[i]!
    }
    const rs = 1 / Math.sqrt(squares / n + eps)
    for (let i = begin; i < begin + n; i++) {
      dx[i] = rs * (gain[i - begin]! * dy[i]! - (x[i]! * rs * rs * inner) / n)
      dGain[i - begin]! += dy[i]! * x[i]! * rs
    }
  }
  return { dx, dGain }
}

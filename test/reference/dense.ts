// The dense operations in float64: plain loops over rows.

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

export const sigmoid = (x: number) => 1 / (1 + Math.exp(-x))
export const silu = (x: number) => (x === -Infinity ? 0 : x * sigmoid(x))

/** erf by its series and, far out, its continued fraction: double precision. */
export function erf(x: number): number {
  const a = Math.abs(x)
  if (a > 6) return Math.sign(x)
  if (a < 2.5) {
    let term = a
    let sum = a
    for (let n = 1; n < 100; n++) {
      term *= (-a * a) / n
      sum += term / (2 * n + 1)
    }
    return (Math.sign(x) * 2 * sum) / Math.sqrt(Math.PI)
  }
  let f = a
  for (let n = 60; n > 0; n--) f = a + n / 2 / f
  return Math.sign(x) * (1 - Math.exp(-a * a) / (f * Math.sqrt(Math.PI)))
}

/** Phi(x), accurate in the lower tail too. */
export function normalCdf(x: number): number {
  if (x > -3.5) return 0.5 * (1 + erf(x / Math.SQRT2))
  const a = -x / Math.SQRT2
  let f = a
  for (let n = 200; n > 0; n--) f = a + n / 2 / f
  return (0.5 * Math.exp(-a * a)) / (f * Math.sqrt(Math.PI))
}

export const activations = {
  relu: { f: (x: number) => Math.max(0, x), derivative: (x: number) => (x > 0 ? 1 : 0) },
  gelu: {
    f: (x: number) => x * normalCdf(x),
    derivative: (x: number) => normalCdf(x) + (x * Math.exp(-0.5 * x * x)) / Math.sqrt(2 * Math.PI),
  },
  silu: { f: silu, derivative: (x: number) => sigmoid(x) * (1 + x * (1 - sigmoid(x))) },
  sigmoid: { f: sigmoid, derivative: (x: number) => sigmoid(x) * (1 - sigmoid(x)) },
} as const

export function softmax(x: ArrayLike<number>, n: number): Float64Array {
  const y = Float64Array.from(x)
  for (let at = 0; at < y.length; at += n) {
    const row = y.subarray(at, at + n)
    const most = Math.max(...row)
    let sum = 0
    for (const v of row) sum += Math.exp(v - most)
    for (let i = 0; i < n; i++) row[i] = Math.exp(row[i]! - most) / sum
  }
  return y
}

export function softmaxBackward(
  dy: ArrayLike<number>,
  y: ArrayLike<number>,
  n: number,
): Float64Array {
  const dx = new Float64Array(y.length)
  for (let at = 0; at < y.length; at += n) {
    let sum = 0
    for (let i = at; i < at + n; i++) sum += dy[i]! * y[i]!
    for (let i = at; i < at + n; i++) dx[i] = y[i]! * (dy[i]! - sum)
  }
  return dx
}

export function rmsNorm(
  x: ArrayLike<number>,
  gain: ArrayLike<number> | undefined,
  n: number,
  eps: number,
): Float64Array {
  const y = Float64Array.from(x)
  for (let at = 0; at < y.length; at += n) {
    const row = y.subarray(at, at + n)
    let square = 0
    for (const v of row) square += v * v
    const rs = 1 / Math.sqrt(square / n + eps)
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
  for (let at = 0; at < x.length; at += n) {
    let square = 0
    let inner = 0
    for (let i = at; i < at + n; i++) {
      square += x[i]! * x[i]!
      inner += x[i]! * gain[i - at]! * dy[i]!
    }
    const rs = 1 / Math.sqrt(square / n + eps)
    for (let i = at; i < at + n; i++) {
      dx[i] = rs * (gain[i - at]! * dy[i]! - (x[i]! * rs * rs * inner) / n)
      dGain[i - at]! += dy[i]! * x[i]! * rs
    }
  }
  return { dx, dGain }
}

export function crossEntropy(
  logits: ArrayLike<number>,
  targets: ArrayLike<number>,
  C: number,
): Float64Array {
  return Float64Array.from(targets, (target, t) => {
    if (target < 0) return 0
    let most = -Infinity
    for (let c = 0; c < C; c++) most = Math.max(most, logits[t * C + c]!)
    let sum = 0
    for (let c = 0; c < C; c++) sum += Math.exp(logits[t * C + c]! - most)
    return most + Math.log(sum) - logits[t * C + target]!
  })
}

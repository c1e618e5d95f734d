// Elementwise activations and their derivatives in float64.

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

// Scaled dot-product attention in float64: q, k, v [B, T, H, d] flat.

export interface Shape {
  B: number
  T: number
  H: number
  d: number
}

export function attention(
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  n: Shape,
  scale: number,
  causal: boolean,
) {
  const { B, T, H, d } = n
  const y = new Float64Array(B * T * H * d)
  const lse = new Float64Array(B * H * T)
  const offset = (b: number, t: number, h: number) => ((b * T + t) * H + h) * d
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let t = 0; t < T; t++) {
        const seen = causal ? t + 1 : T
        const scores = Array.from({ length: seen }, (_, u) => {
          let sum = 0
          for (let i = 0; i < d; i++) sum += q[offset(b, t, h) + i]! * k[offset(b, u, h) + i]!
          return scale * sum
        })
        const max = Math.max(...scores)
        const total = scores.reduce((sum, s) => sum + Math.exp(s - max), 0)
        lse[(b * H + h) * T + t] = max + Math.log(total)
        for (const [u, s] of scores.entries()) {
          const p = Math.exp(s - max) / total
          for (let i = 0; i < d; i++) y[offset(b, t, h) + i]! += p * v[offset(b, u, h) + i]!
        }
      }
    }
  }
  return { y, lse }
}

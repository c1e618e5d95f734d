// Scaled dot-product attention in float64: q [B, T, H, d], k and v [B, K, G, d] flat.

export interface Shape {
  B: number
  T: number
  H: number
  /** Keys. */
  K: number
  /** Heads of keys. */
  G: number
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
  const { B, T, H, K, G, d } = n
  const y = new Float64Array(B * T * H * d)
  const lse = new Float64Array(B * H * T)
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      const key = (u: number) => ((b * K + u) * G + Math.floor(h / (H / G))) * d
      for (let t = 0; t < T; t++) {
        const query = ((b * T + t) * H + h) * d
        const seen = causal ? Math.max(0, K - T + t + 1) : K
        const scores = Array.from({ length: seen }, (_, u) => {
          let sum = 0
          for (let i = 0; i < d; i++) sum += q[query + i]! * k[key(u) + i]!
          return scale * sum
        })
        const max = Math.max(...scores)
        const total = scores.reduce((sum, s) => sum + Math.exp(s - max), 0)
        lse[(b * H + h) * T + t] = max + Math.log(total)
        for (const [u, s] of scores.entries()) {
          const p = Math.exp(s - max) / total
          for (let i = 0; i < d; i++) y[query + i]! += p * v[key(u) + i]!
        }
      }
    }
  }
  return { y, lse }
}

/** Gradients of the sum of dy * y. */
export function attentionBackward(
  dy: ArrayLike<number>,
  q: ArrayLike<number>,
  k: ArrayLike<number>,
  v: ArrayLike<number>,
  n: Shape,
  scale: number,
  causal: boolean,
) {
  const { B, T, H, K, G, d } = n
  const { y, lse } = attention(q, k, v, n, scale, causal)
  const dq = new Float64Array(B * T * H * d)
  const dk = new Float64Array(B * K * G * d)
  const dv = new Float64Array(B * K * G * d)
  for (let b = 0; b < B; b++) {
    for (let h = 0; h < H; h++) {
      for (let t = 0; t < T; t++) {
        const at = ((b * T + t) * H + h) * d
        const seen = causal ? Math.max(0, K - T + t + 1) : K
        for (let u = 0; u < seen; u++) {
          const from = ((b * K + u) * G + Math.floor(h / (H / G))) * d
          let s = 0
          let dp = 0
          for (let i = 0; i < d; i++) {
            s += scale * q[at + i]! * k[from + i]!
            dp += dy[at + i]! * (v[from + i]! - y[at + i]!)
          }
          const p = Math.exp(s - lse[(b * H + h) * T + t]!)
          for (let i = 0; i < d; i++) {
            dq[at + i]! += scale * p * dp * k[from + i]!
            dk[from + i]! += scale * p * dp * q[at + i]!
            dv[from + i]! += p * dy[at + i]!
          }
        }
      }
    }
  }
  return { dq, dk, dv }
}

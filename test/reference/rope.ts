// Each pair (i, i + d/2) of a head turned by position * theta^(-2i/d), in float64.

export interface Rope {
  /** [batch, time, heads, headDim] */
  shape: readonly [number, number, number, number]
  theta: number
  /** Of a token of a batch. */
  position: (b: number, t: number) => number
  /** 1, or -1 for the gradient. */
  sign: 1 | -1
}

export function rope(x: ArrayLike<number>, { shape, theta, position, sign }: Rope): Float64Array {
  const [B, T, H, d] = shape
  const y = new Float64Array(x.length)
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++)
      for (let h = 0; h < H; h++)
        for (let i = 0; i < d / 2; i++) {
          const at = ((b * T + t) * H + h) * d + i
          const angle = sign * position(b, t) * theta ** ((-2 * i) / d)
          const [c, s] = [Math.cos(angle), Math.sin(angle)]
          y[at] = x[at]! * c - x[at + d / 2]! * s
          y[at + d / 2] = x[at + d / 2]! * c + x[at]! * s
        }
  return y
}

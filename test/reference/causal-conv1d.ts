// y[b, t, c] = bias[c] + sum over j of weight[c, j] * x[b, t - (width - 1 - j) * dilation, c], in
// float64.

export interface Conv {
  B: number
  T: number
  C: number
  width: number
  dilation: number
}

/** f(index of y, index of x, index of the weight) for each product of the sum. */
function eachProduct(
  { B, T, C, width, dilation }: Conv,
  f: (y: number, x: number, w: number) => void,
): void {
  for (let b = 0; b < B; b++)
    for (let t = 0; t < T; t++)
      for (let c = 0; c < C; c++)
        for (let j = 0; j < width; j++) {
          const from = t - (width - 1 - j) * dilation
          if (from >= 0) f((b * T + t) * C + c, (b * T + from) * C + c, c * width + j)
        }
}

export function causalConv1d(
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  bias: ArrayLike<number> | undefined,
  shape: Conv,
): Float64Array {
  const y = Float64Array.from(x, (_, i) => bias?.[i % shape.C] ?? 0)
  eachProduct(shape, (to, from, w) => (y[to]! += weight[w]! * x[from]!))
  return y
}

export function causalConv1dBackward(
  dy: ArrayLike<number>,
  x: ArrayLike<number>,
  weight: ArrayLike<number>,
  shape: Conv,
) {
  const dx = new Float64Array(x.length)
  const dWeight = new Float64Array(weight.length)
  const dBias = new Float64Array(shape.C)
  eachProduct(shape, (to, from, w) => {
    dx[from]! += weight[w]! * dy[to]!
    dWeight[w]! += x[from]! * dy[to]!
  })
  for (let i = 0; i < dy.length; i++) dBias[i % shape.C]! += dy[i]!
  return { dx, dWeight, dBias }
}

// y = (x - mean(x)) / sqrt(var(x) + eps) * weight + bias over rows of n, in float64.

function moments(row: ArrayLike<number>, eps: number) {
  let [mean, variance] = [0, 0]
  for (let i = 0; i < row.length; i++) mean += row[i]! / row.length
  for (let i = 0; i < row.length; i++) variance += (row[i]! - mean) ** 2 / row.length
  return { mean, inverse: 1 / Math.sqrt(variance + eps) }
}

const ones = (n: number) => new Float64Array(n).fill(1)

export function layerNorm(
  x: ArrayLike<number>,
  weight: ArrayLike<number> | undefined,
  bias: ArrayLike<number> | undefined,
  n: number,
  eps: number,
): Float64Array {
  const y = Float64Array.from(x)
  for (let begin = 0; begin < y.length; begin += n) {
    const row = y.subarray(begin, begin + n)
    const { mean, inverse } = moments(row, eps)
    for (let i = 0; i < n; i++)
      row[i] = (row[i]! - mean) * inverse * (weight?.[i] ?? 1) + (bias?.[i] ?? 0)
  }
  return y
}

export function layerNormBackward(
  dy: ArrayLike<number>,
  x: ArrayLike<number>,
  weight: ArrayLike<number> | undefined,
  n: number,
  eps: number,
) {
  const [dx, dWeight, dBias] = [new Float64Array(x.length), ones(n).fill(0), ones(n).fill(0)]
  for (let begin = 0; begin < x.length; begin += n) {
    const row = Float64Array.from({ length: n }, (_, i) => x[begin + i]!)
    const { mean, inverse } = moments(row, eps)
    let [sum, product] = [0, 0]
    for (let i = 0; i < n; i++) {
      const [d, normal] = [dy[begin + i]!, (row[i]! - mean) * inverse]
      dWeight[i]! += d * normal
      dBias[i]! += d
      sum += d * (weight?.[i] ?? 1)
      product += d * (weight?.[i] ?? 1) * normal
    }
    for (let i = 0; i < n; i++) {
      const g = dy[begin + i]! * (weight?.[i] ?? 1)
      dx[begin + i] = inverse * (g - sum / n - ((row[i]! - mean) * inverse * product) / n)
    }
  }
  return { dx, dWeight, dBias }
}

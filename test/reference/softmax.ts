// Softmax of rows of n, in float64.

export function softmax(x: ArrayLike<number>, n: number): Float64Array {
  const y = Float64Array.from(x)
  for (let begin = 0; begin < y.length; begin += n) {
    const row = y.subarray(begin, begin + n)
    const max = Math.max(...row)
    let sum = 0
    for (const v of row) sum += Math.exp(v - max)
    for (let i = 0; i < n; i++) row[i] = Math.exp(row[i]! - max) / sum
  }
  return y
}

export function softmaxBackward(
  dy: ArrayLike<number>,
  y: ArrayLike<number>,
  n: number,
): Float64Array {
  const dx = new Float64Array(y.length)
  for (let begin = 0; begin < y.length; begin += n) {
    let sum = 0
    for (let i = begin; i < begin + n; i++) sum += dy[i]! * y[i]!
    for (let i = begin; i < begin + n; i++) dx[i] = y[i]! * (dy[i]! - sum)
  }
  return dx
}

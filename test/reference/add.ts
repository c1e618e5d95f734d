// alpha * x + beta * y in float64.

export function add(x: ArrayLike<number>, y: ArrayLike<number>, alpha = 1, beta = 1): Float64Array {
  return Float64Array.from(x, (v, i) => alpha * v + beta * y[i]!)
}

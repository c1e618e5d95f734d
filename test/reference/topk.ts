// The k largest of a row, in the total order of native/core/order.h.

/** NaN first, then value descending, then index ascending; -0 equals +0. */
export function before(a: number, i: number, b: number, j: number): boolean {
  if (Number.isNaN(a) || Number.isNaN(b))
    return Number.isNaN(a) === Number.isNaN(b) ? i < j : Number.isNaN(a)
  return a === b ? i < j : a > b
}

export function topK(x: ArrayLike<number>, k: number): number[] {
  const order = Array.from({ length: x.length }, (_, i) => i)
  return order.sort((i, j) => (before(x[i]!, i, x[j]!, j) ? -1 : 1)).slice(0, k)
}

// y[t, :] = scale * table[indices[t], :]; a negative index gives zeros. In float64.

export function embedding(
  table: ArrayLike<number>,
  V: number,
  indices: ArrayLike<number>,
  scales?: ArrayLike<number>,
): Float64Array {
  const y = new Float64Array(indices.length * V)
  for (let t = 0; t < indices.length; t++) {
    const index = indices[t]!
    if (index < 0) continue
    for (let c = 0; c < V; c++) y[t * V + c] = (scales?.[index] ?? 1) * table[index * V + c]!
  }
  return y
}

export function embeddingBackward(
  dy: ArrayLike<number>,
  slots: number,
  V: number,
  indices: ArrayLike<number>,
): Float64Array {
  const dTable = new Float64Array(slots * V)
  for (let t = 0; t < indices.length; t++)
    for (let c = 0; indices[t]! >= 0 && c < V; c++) dTable[indices[t]! * V + c]! += dy[t * V + c]!
  return dTable
}

// y[b, :] = sum over the entries of bag b of weight * scale[index] * table[index, :], in float64.
// A negative index is padding.

export interface Bags {
  indices: ArrayLike<number>
  weights: ArrayLike<number>
  /** Bag b has the entries offsets[b] … offsets[b + 1]. */
  offsets: ArrayLike<number>
  scales?: ArrayLike<number>
}

/** The offsets of bags that all have `size` entries. */
export function fixedOffsets(bags: number, size: number): number[] {
  return Array.from({ length: bags + 1 }, (_, b) => b * size)
}

export function embeddingBag(
  table: ArrayLike<number>,
  V: number,
  { indices, weights, offsets, scales }: Bags,
): Float64Array {
  const y = new Float64Array((offsets.length - 1) * V)
  for (let b = 0; b + 1 < offsets.length; b++) {
    for (let l = offsets[b]!; l < offsets[b + 1]!; l++) {
      const index = indices[l]!
      if (index < 0) continue
      for (let c = 0; c < V; c++)
        y[b * V + c]! += weights[l]! * (scales?.[index] ?? 1) * table[index * V + c]!
    }
  }
  return y
}

export function embeddingBagBackward(
  dy: ArrayLike<number>,
  table: ArrayLike<number>,
  V: number,
  { indices, weights, offsets, scales }: Bags,
) {
  const dWeights = new Float64Array(indices.length)
  const dTable = new Float64Array(table.length)
  for (let b = 0; b + 1 < offsets.length; b++) {
    for (let l = offsets[b]!; l < offsets[b + 1]!; l++) {
      const index = indices[l]!
      if (index < 0) continue
      for (let c = 0; c < V; c++) {
        dWeights[l]! += (scales?.[index] ?? 1) * dy[b * V + c]! * table[index * V + c]!
        dTable[index * V + c]! += weights[l]! * dy[b * V + c]!
      }
    }
  }
  return { dWeights, dTable }
}

/** The rows of a matrix of this width. */
export function rowsOf<A extends { length: number; slice(begin: number, end: number): unknown }>(
  matrix: A,
  width: number,
): A[] {
  return Array.from(
    { length: matrix.length / width },
    (_, r) => matrix.slice(r * width, (r + 1) * width) as A,
  )
}

/** A matrix of these rows. */
export function stack(rows: readonly ArrayLike<number>[]): Float32Array {
  return Float32Array.from(rows.flatMap((row) => Array.from(row)))
}

/** Rows of n numbers of which one or two are finite, or none. */
export function extremeRows(n: number) {
  const row = (values: Record<number, number>, rest = -Infinity) => {
    const x = new Float32Array(n).fill(rest)
    for (const [i, value] of Object.entries(values)) x[Number(i)] = value
    return x
  }
  return {
    'two equal, near the end': row({ [n - 4]: 2, [n - 3]: 2 }),
    'one huge, at the end': row({ [n - 1]: 3e38 }),
    'one +Infinity': row({ 5: Infinity }),
    'one NaN, near the end': row({ [n - 3]: 1, [n - 2]: Number.NaN }),
    'all -Infinity': row({}),
    'all NaN': row({}, Number.NaN),
  }
}

/** Numbers of which the order is known, or decided by their position; for rows of 300 and more. */
export const orders: Record<string, (i: number) => number> = {
  ascending: (i) => i,
  descending: (i) => -i,
  equal: () => 1.5,
  'two values': (i) => i % 2,
  'three values': (i) => i % 3,
  zeros: (i) => (i % 2 ? 0 : -0),
  denormals: (i) => ((i * 7) % 11) * 1e-45,
  'huge and tiny': (i) => (i % 5 ? 1e-38 : 3e38) * (i % 2 ? 1 : -1),
  infinities: (i) => (i % 50 === 0 ? Infinity : i % 3 ? -Infinity : i),
  'all -Infinity but one': (i) => (i === 200 ? 1 : -Infinity),
  'all -Infinity': () => -Infinity,
  'all +Infinity': () => Infinity,
}

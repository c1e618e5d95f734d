// Arithmetic of operands that are broadcast, in float64.

/** An array with its shape, row-major. */
export interface NdArray {
  shape: readonly number[]
  data: ArrayLike<number>
}

const elements = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The indices of the i-th element. */
export function indicesOf(shape: readonly number[], i: number): number[] {
  const indices: number[] = []
  for (const size of [...shape].reverse()) {
    indices.unshift(i % size)
    i = Math.floor(i / size)
  }
  return indices
}

/** The element of `shape` at these indices of axes that it is broadcast to. */
export function positionIn(shape: readonly number[], indices: readonly number[]): number {
  const own = indices.slice(indices.length - shape.length)
  return shape.reduce((at, size, axis) => at * size + (size === 1 ? 0 : own[axis]!), 0)
}

/** The shape that both are broadcast to. */
export function broadcastShape(x: readonly number[], y: readonly number[]): number[] {
  const rank = Math.max(x.length, y.length)
  return Array.from({ length: rank }, (_, axis) => {
    const sizeX = x[axis - (rank - x.length)] ?? 1
    const sizeY = y[axis - (rank - y.length)] ?? 1
    return sizeX === 1 ? sizeY : sizeX
  })
}

/** f(x, y) for each element of the result. */
export function combine(
  x: NdArray,
  y: NdArray,
  f: (x: number, y: number) => number,
): { shape: number[]; data: Float64Array } {
  const shape = broadcastShape(x.shape, y.shape)
  const data = Float64Array.from({ length: elements(shape) }, (_, i) => {
    const indices = indicesOf(shape, i)
    return f(x.data[positionIn(x.shape, indices)]!, y.data[positionIn(y.shape, indices)]!)
  })
  return { shape, data }
}

/** `alpha * x + beta * y` of operands of one shape. */
export function add(x: ArrayLike<number>, y: ArrayLike<number>, alpha = 1, beta = 1): Float64Array {
  return Float64Array.from(x, (v, i) => alpha * v + beta * y[i]!)
}

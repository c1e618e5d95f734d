// Concatenation, boxes and the order of axes, element by element.

export interface NdArray<A = ArrayLike<number>> {
  data: A
  shape: readonly number[]
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1)

/** The place of an index of each axis. */
const place = (index: readonly number[], shape: readonly number[]) =>
  shape.reduce((at, length, axis) => at * length + index[axis]!, 0)

/** An array whose element at an index is f(index). */
function build(shape: readonly number[], f: (index: number[]) => number): NdArray<number[]> {
  const data = Array.from({ length: size(shape) }, (_, at) => {
    const index: number[] = []
    let rest = at
    for (const length of shape.toReversed()) {
      index.unshift(rest % length)
      rest = Math.floor(rest / length)
    }
    return f(index)
  })
  return { data, shape }
}

const at = ({ data, shape }: NdArray, index: readonly number[]) => data[place(index, shape)]!

export function permute(x: NdArray, axes: readonly number[]): NdArray<number[]> {
  const shape = axes.map((axis) => x.shape[axis]!)
  return build(shape, (index) =>
    at(
      x,
      x.shape.map((_, axis) => index[axes.indexOf(axis)]!),
    ),
  )
}

export function slice(x: NdArray, begin: readonly number[], shape: readonly number[]) {
  return build(shape, (index) =>
    at(
      x,
      index.map((i, axis) => i + begin[axis]!),
    ),
  )
}

export function sliceBackward(dy: NdArray, begin: readonly number[], shape: readonly number[]) {
  return build(shape, (index) => {
    const own = index.map((i, axis) => i - begin[axis]!)
    return own.every((i, axis) => i >= 0 && i < dy.shape[axis]!) ? at(dy, own) : 0
  })
}

export function concat(parts: readonly NdArray[], axis: number): NdArray<number[]> {
  const sizes = parts.map((part) => part.shape[axis]!)
  const total = sizes.reduce((a, b) => a + b, 0)
  const shape = parts[0]!.shape.map((length, a) => (a === axis ? total : length))
  return build(shape, (index) => {
    const own = [...index]
    let part = 0
    while (own[axis]! >= sizes[part]!) own[axis]! -= sizes[part++]!
    return at(parts[part]!, own)
  })
}

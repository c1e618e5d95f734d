// Checking results: evenly spaced samples of an output against the reference.

import { embeddingBag, fixedOffsets, halfScores, linear, lookup, silu } from './reference.js'
import type { TokenShape } from './shapes.js'

/** A result differs from the reference. */
export class WrongResult extends Error {}

function checkLength(
  what: string,
  got: ArrayLike<number> | undefined,
  { length }: ArrayLike<number>,
): asserts got is ArrayLike<number> {
  if (got?.length !== length)
    throw new WrongResult(`${what} has ${got?.length ?? 'no'} numbers, wanted ${length}`)
}

/** Every number within `tolerance` of the reference, relative to the largest magnitude of that. */
export function expectNear(
  what: string,
  got: ArrayLike<number> | undefined,
  reference: ArrayLike<number>,
  tolerance: number,
): void {
  checkLength(what, got, reference)
  let scale = 0
  for (let i = 0; i < reference.length; i++) scale = Math.max(scale, Math.abs(reference[i]!))
  for (let i = 0; i < reference.length; i++) {
    const error = Math.abs(got[i]! - reference[i]!)
    if (!(error <= tolerance * scale))
      throw new WrongResult(
        `${what}[${i}] is ${got[i]}, wanted ${reference[i]} within ${tolerance} of ${scale}`,
      )
  }
}

/** The root mean square of the differences within `tolerance` of that of the reference. */
export function expectNearInTheMean(
  what: string,
  got: ArrayLike<number> | undefined,
  reference: ArrayLike<number>,
  tolerance: number,
): void {
  checkLength(what, got, reference)
  let [error, scale] = [0, 0]
  for (let i = 0; i < reference.length; i++) {
    error += (got[i]! - reference[i]!) ** 2
    scale += reference[i]! ** 2
  }
  if (!(Math.sqrt(error) <= tolerance * Math.sqrt(scale)))
    throw new WrongResult(
      `${what} is apart by ${Math.sqrt(error / scale)} in the mean, wanted ${tolerance}`,
    )
}

/** Up to `limit` of 0 … count - 1, evenly spaced, the ends among them. */
export function spaced(count: number, limit: number): number[] {
  if (count <= limit) return Array.from({ length: count }, (_, i) => i)
  return Array.from({ length: limit }, (_, i) => Math.floor((i * (count - 1)) / (limit - 1)))
}

/** The listed rows of `data` [-, width], one after another; empty where there is no data. */
export function rowsOf(
  data: ArrayLike<number> | undefined,
  width: number,
  rows: ArrayLike<number>,
): Float64Array {
  const out = new Float64Array(data ? rows.length * width : 0)
  for (let i = 0; i < out.length; i++)
    out[i] = data![rows[Math.floor(i / width)]! * width + (i % width)] ?? Number.NaN
  return out
}

/** A gated memory layer on x [T, inputDim]: its output, and the rows of the table it reads. */
export function memoryLayer(
  { inputDim, heads, knn, keyDim, nKeys }: TokenShape,
  state: Record<string, Float32Array>,
  x: ArrayLike<number>,
) {
  const tokens = x.length / inputDim
  const dense = (name: string, input: ArrayLike<number>) => {
    const bias = state[`${name}.bias`]!
    const width = input.length / tokens
    return linear(input, state[`${name}.weight`]!, bias, tokens, width, bias.length)
  }
  const shape = { T: tokens, H: heads, n: nKeys, d: keyDim / 2, k: knn }
  const query = dense('query_proj.query_mlps.0', x)
  const found = lookup(halfScores(query, state['keys']!, shape), shape, 'softmax')
  const table = state['values.weight']!
  const bags = { ...found, offsets: fixedOffsets(tokens, heads * knn) }
  const gate = dense('swilu_projection', x)
  const gated = embeddingBag(table, table.length / nKeys ** 2, bags).map(
    (v, i) => v * silu(gate[i]!),
  )
  return { y: dense('value_proj', gated), rows: found.indices }
}

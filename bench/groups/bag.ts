// Embedding bag forward, and the gradient of its weights: both read every row once.

import type { BagWeightsProblem } from '../backends/backend.js'
import { Ceiling, canUnroll } from '../backends/ceiling.js'
import { expectNear, rowsOf, spaced } from '../check.js'
import { decodedRows, rowBytesOf, sampleIndices, uniform } from '../data.js'
import type { Participant } from '../harness.js'
import { embeddingBag, embeddingBagBackward, fixedOffsets } from '../reference.js'
import {
  type Distribution,
  distributions,
  type Shapes,
  type TableDType,
  type TableShape,
} from '../shapes.js'
import { type Case, compare, type Environment, setsFor } from './case.js'

export interface BagShape extends TableShape {
  dtype: TableDType
  tokens: number
  bag: number
  distribution: Distribution
}

export const nameOf = (s: BagShape) =>
  `${s.slots}x${s.dim}/${s.dtype}/${s.tokens}x${s.bag}/${s.distribution}`

/** Every combination of these tables and dtypes with the numbers of tokens and the bags. */
export const bagShapes = (
  shapes: Shapes,
  tables: readonly TableShape[],
  dtypes: readonly TableDType[],
  bags = shapes.bags,
): BagShape[] =>
  tables.flatMap((table) =>
    dtypes.flatMap((dtype) =>
      shapes.tokens.flatMap((tokens) =>
        bags.flatMap((bag) =>
          distributions.map((distribution) => ({ ...table, dtype, tokens, bag, distribution })),
        ),
      ),
    ),
  )

export async function problemOf(env: Environment, s: BagShape): Promise<BagWeightsProblem> {
  const { tokens, bag, distribution } = s
  const table = await env.table(s.slots, s.dim, s.dtype)
  const count = tokens * bag
  const sets = Array.from({ length: setsFor(count * rowBytesOf(table)) }, (_, i) => ({
    indices: sampleIndices(distribution, count, s.slots, 100 + i),
    weights: uniform(count, 200 + i),
  }))
  return { table, tokens, bag, distribution, sets, dy: uniform(tokens * s.dim, 300) }
}

/** The reference for sampled tokens of set 0. */
function referenceOf({ table, tokens, bag, sets, dy }: BagWeightsProblem) {
  const sample = spaced(tokens, 64)
  const indices = Int32Array.from(rowsOf(sets[0]!.indices, bag, sample))
  // The table of the reference holds the rows read, in order.
  const rows = decodedRows(table, indices)
  const bags = {
    indices: indices.map((_, i) => i),
    weights: rowsOf(sets[0]!.weights, bag, sample),
    offsets: fixedOffsets(sample.length, bag),
  }
  const sampledDy = rowsOf(dy, table.dim, sample)
  return {
    sample,
    y: embeddingBag(rows, table.dim, bags),
    dWeights: embeddingBagBackward(sampledDy, rows, table.dim, bags).dWeights,
  }
}

// A contender may compute in float16 where the table is float16.
const toleranceOf = (dtype: TableDType) => (dtype === 'float32' || dtype === 'int8' ? 1e-4 : 2e-2)

const pageBytes = 4096

function bagCase(s: BagShape, group: 'bag' | 'dweights'): Case {
  const name = `${group}/${nameOf(s)}`
  return {
    name,
    resident: `${s.slots}x${s.dim}/${s.dtype}`,
    async run(env) {
      const problem = await problemOf(env, s)
      const reference = referenceOf(problem)
      const [output, width] =
        group === 'bag' ? (['y', s.dim] as const) : (['dWeights', s.bag] as const)
      const rowBytes = rowBytesOf(problem.table)
      // What the bag is to beat where rows are wide: it need not read a row from end to end.
      const wholeRows = env.backends.flatMap((ceiling): Participant[] =>
        ceiling instanceof Ceiling && group === 'bag' && rowBytes >= pageBytes
          ? [
              {
                name: 'whole rows, L1d prefetch',
                threads: ceiling.threads,
                contender: ceiling.gather(problem, [1]),
              },
            ]
          : [],
      )
      const plainLoop = env.backends.flatMap((ceiling): Participant[] =>
        ceiling instanceof Ceiling && group === 'bag' && canUnroll(rowBytes)
          ? [
              {
                name: 'plain loop',
                threads: ceiling.threads,
                contender: ceiling.gather(problem, [1, 2], true),
              },
            ]
          : [],
      )
      const times = await compare(
        env,
        problem.sets.length,
        (backend) => (group === 'bag' ? backend.bag?.(problem) : backend.bagWeights?.(problem)),
        (result) =>
          expectNear(
            `${output} of sampled tokens`,
            rowsOf(result[output], width, reference.sample),
            reference[output],
            toleranceOf(s.dtype),
          ),
        [...wholeRows, ...plainLoop],
      )
      return { name, unit: 'GB/s', work: s.tokens * s.bag * rowBytes, ...times }
    },
  }
}

export function bagCases(shapes: Shapes): Case[] {
  const longest = [Math.max(...shapes.bags)]
  return [
    ...shapes.tables.flatMap((table) => [
      ...bagShapes(shapes, [table], ['float32']).map((s) => bagCase(s, 'bag')),
      ...bagShapes(shapes, [table], ['float32'], longest).map((s) => bagCase(s, 'dweights')),
    ]),
    ...bagShapes(shapes, shapes.tables.slice(0, 1), shapes.narrow).map((s) => bagCase(s, 'bag')),
  ]
}

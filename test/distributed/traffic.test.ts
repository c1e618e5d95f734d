// The planner's bytes are those that the ranks of a training step count.

import { describe, expect, test } from 'vitest'
import type { TransformerOptions } from '../../lib/nn/index.js'
import { plan } from '../../lib/nn/plan.js'
import { missing, runRanks } from './run-ranks.js'

const memory: TransformerOptions = {
  vocabSize: 64,
  dim: 32,
  layers: 2,
  heads: 2,
  headDim: 16,
  contextLength: 8,
  feedForward: { kind: 'swiglu', hiddenDim: 32 },
  memory: { layers: [1], nKeys: 16, heads: 2, knn: 4, keyDim: 16 },
}
const { memory: _, ...dense } = memory
const peer: TransformerOptions = {
  ...dense,
  feedForward: { kind: 'peer', nKeys: 16, heads: 2, knn: 4, keyDim: 16 },
}

describe.skipIf(missing)('a step sends what the planner says', () => {
  test.each([
    ['memory', 2, 2, memory],
    ['memory', 4, 4, memory],
    ['memory', 8, 8, memory],
    ['memory', 4, 2, memory],
    ['peer', 2, 2, peer],
  ] as const)(
    '%s, %i ranks, %i of which divide the tables',
    async (_, devices, columns, options) => {
      const planned = plan(options, { devices, columns, batch: 2 })
      const bytes = new Map(planned.collectives.map((c) => [c.name, c.bytes]))
      const all = (...names: string[]) => names.reduce((sum, n) => sum + (bytes.get(n) ?? 0), 0)
      const ranks = await runRanks<Result>(devices, 'traffic.ts', { columns, options })
      for (const { world, columns } of ranks) {
        expect(columns.allToAll).toBe(
          all('inputs', 'outputs', 'output gradients', 'input gradients'),
        )
        if (options.memory) {
          expect(columns.allGather).toBe(all('indices and weights'))
          expect(columns.reduceScatter).toBe(all('weight gradients'))
        } else {
          const gathered = all('indices and weights') + all('weight gradients') / 2
          expect(columns.allGather).toBe(gathered)
          expect(columns.reduceScatter).toBe(all('expert sums') + all('weight gradients') / 2)
        }
        expect(world.allReduce).toBe(all('dense gradients'))
        // and of each rank its loss, and how many targets count
        expect(world.allGather).toBe(all('embedding reads') + 8 * (devices - 1))
      }
    },
  )
})

type Sent = Record<string, number>

interface Result {
  world: Sent
  columns: Sent
}

// The planner's bytes are those that the ranks of a training step count.

import { describe, expect, test } from 'vitest'
import type { TransformerOptions } from '../../lib/nn/index.js'
import { plan } from '../../lib/nn/plan.js'
import { bytesByLink } from '../../lib/nn/plan-collectives.js'
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

// With a width that three ranks divide, and dense numbers that six do.
const memory3 = { ...memory, dim: 48, memory: { ...memory.memory, keyDim: 24 } } as typeof memory
const peer3 = { ...peer, dim: 48, feedForward: { ...peer.feedForward, keyDim: 24 } } as typeof peer

describe.skipIf(missing)('a step sends what the planner says', () => {
  test.each([
    ['memory', 2, 2, memory],
    ['memory', 4, 4, memory],
    ['memory', 8, 8, memory],
    ['memory', 4, 2, memory],
    ['memory', 6, 3, memory3],
    ['memory', 8, 4, memory],
    ['peer', 2, 2, peer],
    ['peer', 4, 2, peer],
    ['peer', 6, 3, peer3],
  ] as const)(
    '%s, %i ranks, %i of which divide the tables',
    async (_, devices, columns, options) => {
      const planned = plan(options, { devices, columns, batch: 2 })
      const bytes = new Map(planned.collectives.map((c) => [c.name, c.bytes]))
      const all = (...names: string[]) => names.reduce((sum, n) => sum + (bytes.get(n) ?? 0), 0)
      const loss = 8 * (devices - 1) // of each rank, and how many targets count
      const grid = { columns, replicas: devices / columns }
      const ranks = await runRanks<Result>(devices, 'traffic.ts', { columns, options })
      for (const result of ranks) {
        const { rank, world, replicas } = result
        const { calls } = result.columns
        const columnsOf = all('inputs', 'outputs', 'output gradients', 'input gradients')
        expect(calls['allToAll']).toBe(columnsOf)
        const gathered = all('indices and weights')
        const summed = all('expert sums')
        const weights = all('weight gradients')
        // a PEER layer gathers half of them, and sums half
        const reads = options.memory ? gathered : gathered + weights / 2
        expect(calls['allGather']).toBe(reads + 8 * (columns - 1)) // and the norm
        expect(calls['reduceScatter']).toBe(options.memory ? weights : summed + weights / 2)
        expect(world.calls['allReduce']).toBe(all('dense gradients'))
        expect(world.calls['allGather']).toBe(all('embedding reads') + loss)
        expect(replicas?.calls['allGather'] ?? 0).toBe(all('table reads'))
        for (const perMachine of [1, columns, devices]) {
          const machine = (r: number) => Math.floor(r / perMachine)
          const near = (r: number) => machine(r) === machine(rank)
          const links = [world, result.columns, ...(replicas ? [replicas] : [])]
          const counted = [0, 0]
          for (const { to } of links)
            for (const [r, sent] of to.entries()) counted[near(r) ? 0 : 1]! += sent
          for (let r = 0; r < devices; r++) {
            if (r === rank) continue
            const norm = Math.floor(r / columns) === Math.floor(rank / columns)
            counted[near(r) ? 0 : 1]! -= norm ? 8 + 8 : 8 // and the loss
          }
          const topology = { devices, perMachine }
          const parts = planned.collectives.map((c) => bytesByLink(c, grid, topology))
          const sums = [0, 0]
          for (const { within, between } of parts) {
            sums[0]! += within
            sums[1]! += between
          }
          expect(counted[0], `within machines of ${perMachine}`).toBeCloseTo(sums[0]!, 3)
          expect(counted[1], `between machines of ${perMachine}`).toBeCloseTo(sums[1]!, 3)
        }
      }
    },
  )
})

interface Sent {
  calls: Record<string, number>
  to: number[]
}

interface Result {
  rank: number
  world: Sent
  columns: Sent
  replicas?: Sent
}

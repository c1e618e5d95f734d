// Ranks that train one model: the losses of one process, and the same bits in every run.

import { mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, test } from 'vitest'
import { missing, runRanks } from './run-ranks.js'

interface Losses {
  rank: number
  together: number[]
  again: number[]
  alone: number[]
}

/** What rank 0 has found: every rank finds the same, in every run. */
async function train(size: number, options: object): Promise<Losses> {
  const all = { kind: 'cpu', steps: 50, ...options }
  const ranks = await runRanks<Losses>(size, 'training.ts', all)
  const { together } = ranks[0]!
  for (const rank of ranks) expect([rank.together, rank.again]).toEqual([together, together])
  return ranks[0]!
}

function expectNear(found: readonly number[], wanted: readonly number[]): void {
  expect(found.length).toBe(wanted.length)
  for (const [i, loss] of found.entries())
    expect(Math.abs(loss / wanted[i]! - 1), `number ${i}: ${loss}, ${wanted[i]}`).toBeLessThan(1e-5)
}

const peer = { lr: 3e-4, feedForward: { kind: 'peer', nKeys: 16, heads: 2, knn: 4, keyDim: 16 } }

describe.skipIf(missing)('training', () => {
  test.each([
    [2, peer],
    [3, { tieEmbeddings: true }],
    [3, { uneven: true, steps: 20 }],
    [4, {}],
    [4, { columns: 2 }],
    [6, { columns: 3, steps: 10 }],
    [8, { columns: 4, steps: 10, batch: 24 }],
  ])('%i ranks, %j', async (size, options) => {
    const { together, alone } = await train(size, options)
    expectNear(together, alone)
  })
})

describe.skipIf(missing)('checkpoints', () => {
  const folder = mkdtempSync(join(tmpdir(), 'ml-ranks-'))
  afterAll(() => rmSync(folder, { recursive: true }))

  test('are loaded by another number of ranks, and by one process', async () => {
    const path = join(folder, 'run.safetensors')
    await train(3, { path, steps: 20 })
    expect(readdirSync(folder).length).toBe(4)
    const go = async (size: number, whole: boolean) => {
      const { together, alone } = await train(size, { path, steps: 30, resume: true, whole })
      expect(together.length).toBe(3 * 10)
      expectNear(together, alone.slice(-together.length))
    }
    await go(2, false)
    // two groups of two, which hold the same; the files before are removed
    await train(4, { path, steps: 20, columns: 2 })
    expect(readdirSync(folder).length).toBe(5)
    await go(1, true)
  })
})

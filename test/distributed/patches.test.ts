// Patches of divided tables are those of a whole one, and all ranks take them or none.

import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { devices } from '../../lib/index.js'
import { temporaryFolder } from '../support/files.js'
import { missing, runRanks } from './run-ranks.js'

const emulated = devices().some(({ kind }) => kind === 'simt')
const runs = [
  ['cpu', 1, 'bfloat16'],
  ['cpu', 2, 'float32'],
  ['cpu', 3, 'bfloat16'],
  ...(emulated ? [['simt', 2, 'float16'] as const] : []),
] as const

type Results = Record<string, unknown> & { rank: number }

describe.skipIf(missing)('row patches', () => {
  test.each(runs)('%s, %i ranks, %s', async (kind, size, dtype) => {
    const path = join(temporaryFolder(), 'patch.safetensors')
    const ranks = await runRanks<Results>(size, 'patches.ts', { kind, dtype, path })
    for (const { rank, rows, ...results } of ranks) {
      expect(rows).toEqual([3, 5, 17, 38])
      for (const name of ['nothing', 'patch', 'loaded', 'reverted', 'again', 'applied'])
        expect(results[name], `${name} of rank ${rank}`).toBe(true)
      expect(results['conflict']).toMatchObject({ code: 'ERR_CONFLICT', rows: [17] })
      expect(results['untouched']).toBe(true)
      const last = rank === size - 1
      const lost = { code: 'ERR_DISTRIBUTED', rank: size - 1 }
      expect(results['untracked']).toMatchObject(last ? { code: 'ERR_VALUE' } : lost)
      expect(results['step']).toBeNull()
      if (size === 1) continue
      // compared with rank 0: the first that differs from it
      for (const name of ['otherPatch', 'otherRows'])
        expect(results[name], name).toMatchObject({ code: 'ERR_DISTRIBUTED', rank: size - 1 })
    }
  })
})

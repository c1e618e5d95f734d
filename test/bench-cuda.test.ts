// The benchmark of a GPU's kernels runs on the emulator, small: every case is computed and compared.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { expectNearInTheMean } from '../bench/check.js'
import { testDevices } from './support/devices.js'

const root = fileURLToPath(new URL('..', import.meta.url))

describe.skipIf(!testDevices.includes('simt'))('bench/cuda.ts', () => {
  test('checks and times every case', () => {
    const r = spawnSync(process.execPath, ['--import', 'tsx', 'bench/cuda.ts', 'simt'], {
      cwd: root,
      encoding: 'utf8',
    })
    expect(r.status, r.stderr).toBe(0)
    for (const name of [
      'copy of',
      'linear float32',
      'linear bfloat16',
      'its gradients bfloat16',
      'productKeyLookup bfloat16',
      'embeddingBag bfloat16',
      'attention',
      "table's AdamW",
      'one token',
    ])
      expect(r.stdout).toContain(name)
    expect(r.stdout).toMatch(/^28 cases in \d+ s$/m)
    expect(r.stdout).not.toContain('NaN')
  }, 120_000)
})

test('a result that differs in the mean is refused', () => {
  const near = (got: number[], wanted: number[]) => () => expectNearInTheMean('y', got, wanted, 0.1)
  expect(near([1, 2, 3], [1, 2, 3.1])).not.toThrow()
  expect(near([1, 2, 3], [1, 2, 4])).toThrow(/apart by 0\.2/)
  expect(near([1, Number.NaN], [1, 2])).toThrow(/apart/)
  expect(near([1], [1, 2])).toThrow(/has 1 numbers/)
})

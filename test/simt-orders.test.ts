// No bit depends on the order in which a GPU runs threads and blocks, nor on how many
// multiprocessors it has.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { testDevices } from './support/devices.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function digests(settings: string): Record<string, string> {
  const r = spawnSync(process.execPath, ['--import', 'tsx', 'test/support/digests.ts'], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, MEMORY_LAYERS_SIMT: settings },
  })
  expect(r.status, `${settings}: ${r.stderr}`).toBe(0)
  return JSON.parse(r.stdout) as Record<string, string>
}

describe.skipIf(!testDevices.includes('simt'))('on simt', () => {
  const wanted = digests('order=forward')
  const settings = [
    'order=reversed',
    ...[1, 2, 3].map((seed) => `order=${seed}`),
    'multiprocessors=1',
    'order=6,multiprocessors=132',
  ]
  test.each(settings)('%s gives the bits of order=forward', (setting) =>
    expect(digests(setting)).toEqual(wanted),
  )
})

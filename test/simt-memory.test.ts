// A GPU with little memory: what was freed and is still in use by enqueued work is waited for, and
// what is cached makes way.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { testDevices } from './support/devices.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function run(settings: string, program: string): unknown {
  const r = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '-e', program], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, MEMORY_LAYERS_SIMT: settings },
  })
  expect(r.status, r.stderr).toBe(0)
  return JSON.parse(r.stdout)
}

describe.skipIf(!testDevices.includes('simt'))('on simt', () => {
  test.each(['memory=1000000', 'memory=4000000,blocks=cached'])('%s', (settings) => {
    const program = `
      import { openDevice, ops } from './lib/index.js'
      const device = openDevice('simt')
      const { total } = device.memory()
      const sizes = [0.6, 0.6, 0.55, 0.7, 0.65].map((share) => Math.floor((share * total) / 4))
      const sum = device.zeros([3])
      for (const size of [...sizes, ...sizes]) {
        const x = device.zeros([size]), [first, three] = [x.rows(0, 2), x.rows(0, 3)]
        first.write([1, 2])
        ops.add(sum, three, { out: sum })
        for (const t of [first, three, x]) t.dispose()
      }
      console.log(JSON.stringify(Array.from(await sum.data())))`
    expect(run(settings, program)).toEqual([10, 20, 0])
  })
})

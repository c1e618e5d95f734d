import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

// As in `… | head -1`: the pipe is closed before everything is written.
test.each([
  ['memory-layers --help', ['dist/cli.js', '--help']],
  ['memory-layers doctor', ['dist/cli.js', 'doctor']],
  ['npm run bench -- --list', ['node_modules/tsx/dist/cli.mjs', 'bench/main.ts', '--list']],
  ['npm run demo -- --help', ['node_modules/tsx/dist/cli.mjs', 'examples/demo/main.ts', '--help']],
])('%s ends with code 0 when its output is not read', async (_, args) => {
  const child = spawn(process.execPath, args, { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] })
  child.stdout.destroy()
  let errors = ''
  child.stderr.on('data', (data) => {
    errors += data
  })
  const [code] = await once(child, 'close')
  expect({ code, errors }).toEqual({ code: 0, errors: '' })
})

// `npm run test:cuda`, for a machine with a GPU. The tests of every device on `cuda`, then the
// timed benchmark of its kernels. Without a usable GPU it says so and fails: a run that tested
// nothing is not a pass.

import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const gpus = require('node-gyp-build')(root)
  .devices()
  .filter((d) => d.kind === 'cuda')
const usable = gpus.find((d) => d.available)
if (!usable) {
  console.error(`No usable GPU: ${gpus.map((d) => d.reason).join('; ')}. Nothing was tested.`)
  process.exit(1)
}

console.log(`${usable.name}: ${usable.description}`)
const run = (...args) =>
  spawnSync(process.execPath, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, MEMORY_LAYERS_TEST_DEVICES: usable.name },
  }).status
const vitest = join(dirname(require.resolve('vitest/package.json')), 'vitest.mjs')
const tested = run(vitest, 'run', ...process.argv.slice(2))
if (tested !== 0) process.exit(tested ?? 1)
process.exit(run('--import', 'tsx', 'bench/cuda.ts', usable.name) ?? 1)

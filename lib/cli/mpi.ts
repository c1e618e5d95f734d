// npx memory-layers build --mpi: compiles the addon for MPI with the compiler wrapper of the local
// MPI, which knows where its headers and libraries are.

import { spawnSync } from 'node:child_process'
import { mkdirSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { findTransport, root, transportTarget } from '../binary.js'
import { errorText } from './probe.js'

/** Wrappers by the names that MPIs give them. */
const wrappers = ['mpicxx', 'mpic++', 'mpiCC', 'CC']

/** Returns what went wrong; undefined if nothing did. `wrapper`: one by name, or '' for any. */
export function compileTransport(wrapper: string, headers: readonly string[]): string | undefined {
  const compiler = (wrapper ? [wrapper] : wrappers).find((name) => works(name))
  if (!compiler) {
    const problem = wrapper ? `${wrapper} can't be run` : `none of ${wrappers.join(', ')} is there`
    return (
      `no compiler wrapper of an MPI: ${problem}.\n` +
      '  Install an MPI (Debian: apt-get install openmpi-bin libopenmpi-dev), or name its\n' +
      '  wrapper: npx memory-layers build --mpi=/path/to/mpicxx'
    )
  }
  mkdirSync(dirname(transportTarget), { recursive: true })
  // Threads of MPI outlive the environment that loaded the addon: never unload it.
  const linking =
    process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,-z,nodelete']
  const { status } = spawnSync(
    compiler,
    [
      ...['-std=c++20', '-O2', '-fPIC', '-shared', ...linking],
      ...[join(root, 'native'), ...headers].map((folder) => `-I${folder}`),
      join(root, 'native', 'mpi', 'addon.cpp'),
      ...['-o', transportTarget],
    ],
    { stdio: 'inherit' },
  )
  return status === 0 ? undefined : `${compiler}'s messages above say what went wrong.`
}

function works(compiler: string): boolean {
  return spawnSync(compiler, ['--version'], { stdio: 'ignore' }).status === 0
}

/** The MPI of the addon that is used, or why it can't be; undefined where there is no addon. */
export function probeTransport(): { library: string } | { problem: string } | undefined {
  if (!findTransport()) return undefined
  const main = fileURLToPath(import.meta.url)
  const { status, stdout, stderr } = spawnSync(process.execPath, [main, '--probe-mpi'], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  return status === 0 ? { library: stdout.trim() } : { problem: errorText(stderr) }
}

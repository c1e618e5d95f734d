// Runs a program on several ranks of one machine, under the MPI that the addon was built for.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const addon = `${root}/build/mpi/openmpi/memory_layers_mpi.node`

/** Why these tests can't run here; undefined: they can. */
export const missing = existsSync(addon) ? undefined : 'no MPI addon'

/** What each rank has printed, a line of JSON. */
export async function runRanks(
  size: number,
  program: string,
  args: string[] = [],
): Promise<Record<string, unknown>[]> {
  const flags = ['--allow-run-as-root', '--oversubscribe', '-n', String(size)]
  const node = [process.execPath, '--import', 'tsx', `test/distributed/programs/${program}`]
  const child = spawn('mpirun.openmpi', [...flags, ...node, ...args], {
    cwd: root,
    env: { ...process.env, MEMORY_LAYERS_MPI: addon },
  })
  let [out, err] = ['', '']
  child.stdout.on('data', (data) => {
    out += data
  })
  child.stderr.on('data', (data) => {
    err += data
  })
  const code = await new Promise((resolve) => child.on('close', resolve))
  if (code !== 0) throw new Error(`mpirun ended with ${code}:\n${err}\n${out}`)
  return out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>)
}

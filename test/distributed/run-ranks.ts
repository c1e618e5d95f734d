// Runs a program on several ranks of one machine, under the MPI that the addon was built for.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../..', import.meta.url))
const addon = `${root}/build/mpi/openmpi/memory_layers_mpi.node`

/** Why these tests can't run here; undefined: they can. */
export const missing = existsSync(addon) ? undefined : 'no MPI addon'

/** What each rank has written to the file `RANK_RESULT`-<rank>, as JSON, in order. */
export async function runRanks(
  size: number,
  program: string,
  args: string[] = [],
): Promise<Record<string, unknown>[]> {
  const flags = ['--allow-run-as-root', '--oversubscribe', '-n', String(size)]
  const node = [process.execPath, '--import', 'tsx', `test/distributed/programs/${program}`]
  const folder = mkdtempSync(join(tmpdir(), 'ml-results-'))
  const result = join(folder, 'rank')
  try {
    const child = spawn('mpirun.openmpi', [...flags, ...node, ...args], {
      cwd: root,
      env: { ...process.env, MEMORY_LAYERS_MPI: addon, RANK_RESULT: result },
    })
    let text = ''
    const note = (data: Buffer) => {
      text += data
    }
    child.stdout.on('data', note)
    child.stderr.on('data', note)
    const code = await new Promise((resolve) => child.on('close', resolve))
    if (code !== 0) throw new Error(`mpirun ended with ${code}:\n${text}`)
    const read = (rank: number) => JSON.parse(readFileSync(`${result}-${rank}`, 'utf8'))
    return Array.from({ length: size }, (_, rank) => read(rank))
  } finally {
    rmSync(folder, { recursive: true })
  }
}

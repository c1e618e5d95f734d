// Launching a program as several ranks, and what each has reported.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export type Mpi = 'openmpi' | 'mpich'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The MPIs that scripts/test-distributed.mjs has found. */
export const mpis = (process.env['TEST_MPIS'] ?? '').split(' ').filter(Boolean) as Mpi[]

/** With which ranks outlive one that is killed, as the guide gives them. */
export const survivors: Record<Mpi, string[]> = {
  openmpi: ['--enable-recovery'],
  mpich: ['-disable-auto-cleanup'],
}

export interface Launch {
  env?: Record<string, string>
  /** Of the launcher. */
  flags?: string[]
  args?: string[]
  /** Ends everything after so many seconds. Default 60. */
  limit?: number
}

export interface Launched<Result> {
  status: number | null
  seconds: number
  output: string
  /** By rank; undefined of a rank that has reported nothing. */
  results: (Result | undefined)[]
}

export function addonOf(mpi: Mpi): string {
  return join(root, 'build', 'mpi', mpi, 'memory_layers_mpi.node')
}

export async function launch<Result>(
  mpi: Mpi,
  ranks: number,
  program: string,
  { env = {}, flags = [], args = [], limit = 60 }: Launch = {},
): Promise<Launched<Result>> {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-ranks-'))
  const common = mpi === 'openmpi' ? ['--allow-run-as-root', '--oversubscribe'] : []
  const file = join(root, 'test', 'distributed', 'programs', program)
  const start = performance.now()
  const child = spawn(
    `mpirun.${mpi}`,
    [...common, ...flags, '-n', String(ranks), process.execPath, file, ...args],
    {
      cwd: root,
      detached: true,
      env: {
        ...process.env,
        MEMORY_LAYERS_MPI: addonOf(mpi),
        TEST_RESULTS: folder,
        OMP_NUM_THREADS: '1',
        ...env,
      },
    },
  )
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      output += data
    })
  const timer = setTimeout(() => kill(child.pid as number), limit * 1000)
  const status = await new Promise<number | null>((resolve) => child.on('close', resolve))
  clearTimeout(timer)
  const results = Array.from({ length: ranks }, (_, rank) => {
    const report = join(folder, `${rank}.json`)
    return existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
  })
  rmSync(folder, { recursive: true, force: true })
  return { status, seconds: (performance.now() - start) / 1000, output, results }
}

/** The launcher's processes: hydra's are in groups of their own, and end with it. */
function kill(pid: number): void {
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {}
}

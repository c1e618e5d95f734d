// Launching a program as several ranks, and what each has reported.

import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'

export type Mpi = 'openmpi' | 'mpich'

const root = fileURLToPath(new URL('../..', import.meta.url))

/** The MPIs that scripts/test-distributed.mjs has found. */
export const mpis = (process.env['TEST_MPIS'] ?? '').split(' ').filter(Boolean) as Mpi[]

/** With which ranks outlive one that is killed, as the guide gives them. */
export const survivors: Record<Mpi, Launch> = {
  openmpi: { flags: ['--enable-recovery'] },
  mpich: { flags: ['-disable-auto-cleanup'], wrapper: ['setsid', '--wait'] },
}

export interface Launch {
  env?: Record<string, string>
  /** Of the launcher. */
  flags?: string[]
  /** A command that runs each rank. */
  wrapper?: string[]
  args?: string[]
  /** A command that runs the launcher. */
  under?: string[]
  /** Called once, when every rank has reported something. */
  whenAll?: () => void
  /** The number of ranks whose last report ends the test, where the launcher may end before or not
   * at all. */
  until?: number
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
  {
    env = {},
    flags = [],
    wrapper = [],
    args = [],
    under = [],
    whenAll,
    until,
    limit = 60,
  }: Launch = {},
): Promise<Launched<Result>> {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-ranks-'))
  const common = mpi === 'openmpi' ? ['--allow-run-as-root', '--oversubscribe'] : []
  const file = join(root, 'test', 'distributed', 'programs', program)
  const start = performance.now()
  const [command = '', ...words] = [
    ...under,
    `mpirun.${mpi}`,
    ...[...common, ...flags, '-n', String(ranks), ...wrapper, process.execPath, file, ...args],
  ]
  const child = spawn(command, words, {
    cwd: root,
    detached: true,
    env: {
      ...process.env,
      MEMORY_LAYERS_MPI: addonOf(mpi),
      TEST_RESULTS: folder,
      OMP_NUM_THREADS: '1',
      ...env,
    },
  })
  let output = ''
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (data) => {
      output += data
    })
  const ended = new Promise<number | null>((resolve) => child.on('close', resolve))
  const read = (rank: number, kind: string) => {
    const report = join(folder, `${rank}.${kind}`)
    return existsSync(report) ? JSON.parse(readFileSync(report, 'utf8')) : undefined
  }
  const reports = (kind: string) => Array.from({ length: ranks }, (_, rank) => read(rank, kind))
  const end = start + limit * 1000
  let status: number | null | undefined
  void ended.then((code) => {
    status = code
  })
  const done = () =>
    until ? reports('last').filter(Boolean).length >= until : status !== undefined
  let called = false
  while (!done() && performance.now() < end) {
    await setTimeout(50)
    if (called || reports('json').includes(undefined)) continue
    called = true
    whenAll?.()
  }
  const outlived = until || status === undefined
  for (const pid of outlived ? reports('pid').filter(Boolean) : []) kill(pid)
  if (status === undefined) kill(-(child.pid as number))
  // Processes of another host may have the streams open still.
  await Promise.race([ended, setTimeout(2000)])
  const results = reports('json')
  rmSync(folder, { recursive: true, force: true })
  return { status: status ?? null, seconds: (performance.now() - start) / 1000, output, results }
}

function kill(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch {}
}

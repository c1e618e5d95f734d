// Which launcher has started this process, by what it leaves in the environment.

/** A kind of MPI: what works together. */
export type MpiKind = 'Open MPI' | 'MPICH'

/** What the launcher says of the ranks that it has started. */
export interface Launcher {
  /** For messages. */
  name: string
  /** Undefined where it starts ranks of any kind, as srun does. */
  kind?: MpiKind
  /** Number of ranks. */
  size: number
}

/** Undefined for a process that no launcher has started. */
export function findLauncher(env: NodeJS.ProcessEnv = process.env): Launcher | undefined {
  const number = (name: string) => {
    const value = Number(env[name])
    return Number.isInteger(value) && value > 0 ? value : undefined
  }
  const openMpi = number('OMPI_COMM_WORLD_SIZE')
  if (openMpi) return { name: "Open MPI's mpirun", kind: 'Open MPI', size: openMpi }
  const slurm = number('SLURM_STEP_NUM_TASKS')
  if (slurm && env['SLURM_PROCID'] !== undefined) return { name: 'srun', size: slurm }
  const hydra = number('PMI_SIZE')
  if (hydra) return { name: "MPICH's mpiexec", kind: 'MPICH', size: hydra }
  return undefined
}

/** The kind and version in what MPI_Get_library_version says. */
export function mpiLibrary(text: string): { kind: MpiKind | undefined; name: string } {
  const openMpi = /Open MPI v?(\d[^\s,]*)/.exec(text)
  if (openMpi) return { kind: 'Open MPI', name: `Open MPI ${openMpi[1]}` }
  // MPICH and what is built on it, which share launchers and binaries.
  const version = /(?:MPICH|Intel\(R\) MPI|MVAPICH)[^\d]*(\d\S*)/.exec(text)
  const name = /Intel\(R\) MPI/.test(text)
    ? 'Intel MPI'
    : /MVAPICH/.test(text)
      ? 'MVAPICH'
      : 'MPICH'
  if (version) return { kind: 'MPICH', name: `${name} ${version[1]}` }
  return { kind: undefined, name: text.split('\n')[0]?.trim() ?? '' }
}

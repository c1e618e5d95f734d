import { packageVersion } from '../binary.js'
import { native } from '../binding.js'
import { MemoryLayersError } from '../errors.js'
import { checkNumber, checkOptions } from '../options.js'
import { World } from '../world.js'
import { findLauncher, mpiLibrary } from './launcher.js'
import { announcePresence } from './presence.js'
import { loadTransport } from './transport.js'

/** Options of {@link initDistributed}. */
export interface InitOptions {
  /**
   * Seconds that a rank may take no part in a collective, or in the start, before the others give
   * up. Default 25. More for steps, or work between them, that take ranks longer than that.
   */
  timeout?: number
}

const where = 'initDistributed'

/**
 * Joins the processes that `mpirun`, `mpiexec` or `srun` has started: each becomes a rank. Called
 * once in a process, by every rank. A process that no launcher has started is a world of one.
 * @throws ERR_UNSUPPORTED where the addon for MPI is not built, with how to; ERR_DISTRIBUTED where
 * ranks do not arrive in time, where launcher and addon are of different MPIs, where ranks have
 * different versions of this package
 */
export async function initDistributed(options: InitOptions = {}): Promise<World> {
  const { timeout = 25 } = checkOptions(where, options, ['timeout'])
  const milliseconds = Math.ceil(checkNumber(where, 'timeout', timeout, 0.1) * 1000)
  const transport = loadTransport()
  const launcher = findLauncher()
  const { kind, name } = mpiLibrary(native.transportLibrary(transport))
  if (launcher?.kind && kind && launcher.kind !== kind) throw otherMpi(launcher.name, name)
  const findAbsent = announcePresence()
  const group = await native.worldStart(transport, milliseconds).catch(async (error) => {
    const absent = error.rank === undefined ? await findAbsent() : undefined
    throw absent === undefined ? error : notArrived(absent, timeout)
  })
  void findAbsent()
  if (launcher && launcher.size !== group.size) throw otherMpi(launcher.name, name)
  const world = new World(group, name)
  await world.expectSame('the version of memory-layers', packageVersion())
  return world
}

function notArrived(rank: number, timeout: number): MemoryLayersError {
  return new MemoryLayersError(
    'ERR_DISTRIBUTED',
    `${where}: rank ${rank} must call it within ${timeout} s, and has not.\n` +
      '  Every rank that the launcher starts must.',
    rank,
  )
}

function otherMpi(launcher: string, library: string): MemoryLayersError {
  return new MemoryLayersError(
    'ERR_DISTRIBUTED',
    `${where}: the ranks were started by ${launcher}, and the addon for MPI was built with ` +
      `${library}.\n  Build it with the compiler wrapper of the MPI that starts them: ` +
      'npx memory-layers build --mpi=/path/to/mpicxx',
  )
}

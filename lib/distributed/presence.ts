// Which ranks of this machine have called initDistributed, for the case that MPI waits for one that
// has not: MPI itself does not say which. Each listens at an abstract Unix address, which ends with
// its process and leaves no file.

import { connect, createServer } from 'node:net'

/** Undefined where the launcher does not say enough to name ranks. */
interface Job {
  name: string
  rank: number
  size: number
}

function job(env: NodeJS.ProcessEnv): Job | undefined {
  if (process.platform !== 'linux') return undefined
  const number = (name: string) => (env[name] === undefined ? Number.NaN : Number(env[name]))
  const found = env['OMPI_COMM_WORLD_SIZE']
    ? {
        name: env['PMIX_NAMESPACE'] ?? env['OMPI_MCA_ess_base_jobid'] ?? '',
        rank: number('OMPI_COMM_WORLD_RANK'),
        size: number('OMPI_COMM_WORLD_SIZE'),
        local: number('OMPI_COMM_WORLD_LOCAL_SIZE'),
      }
    : {
        name: `${process.ppid}`, // hydra's, which starts all ranks of the machine
        rank: number('PMI_RANK'),
        size: number('PMI_SIZE'),
        local: number('MPI_LOCALNRANKS'),
      }
  return found.local === found.size && found.rank >= 0 ? found : undefined
}

const address = ({ name }: Job, rank: number) => `\0memory-layers-${name}-${rank}`

const pause = 500 // milliseconds

/**
 * This rank is here. The function that is returned gives the first rank that has not been seen, and
 * ends the looking; a rank that was seen may have given up before this one.
 */
export function announcePresence(
  env: NodeJS.ProcessEnv = process.env,
): () => Promise<number | undefined> {
  const own = job(env)
  if (!own) return async () => undefined
  const server = createServer((socket) => socket.destroy())
  server.on('error', () => {}).unref()
  server.listen(address(own, own.rank))
  const unseen = new Set(Array.from({ length: own.size }, (_, rank) => rank))
  unseen.delete(own.rank)
  const look = async () => {
    for (const rank of unseen) if (await answers(address(own, rank))) unseen.delete(rank)
  }
  const timer = setInterval(() => void look(), pause).unref()
  return async () => {
    clearInterval(timer)
    await look()
    server.close()
    return [...unseen][0]
  }
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.on('connect', () => {
      socket.destroy()
      resolve(true)
    })
    socket.on('error', () => resolve(false))
  })
}

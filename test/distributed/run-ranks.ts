// Programs in TypeScript as several ranks, by turns under one MPI and the other.

import { type Launch, launch, type Mpi, mpis } from './launch.js'

/** Whether no MPI was found to run ranks under. */
export const missing = mpis.length === 0

/** What each rank has reported, in order. @throws where one has not */
export async function runRanks<Result>(
  size: number,
  program: string,
  options: object,
  mpi: Mpi = mpis[size % mpis.length]!,
  how: Launch = {},
): Promise<Result[]> {
  const { status, output, results } = await launch<Result>(mpi, size, program, {
    args: [JSON.stringify(options)],
    env: { NODE_OPTIONS: '--import tsx' },
    limit: 80,
    ...how,
  })
  const found = results.filter((result) => result !== undefined)
  if (status !== 0 || found.length < size)
    throw new Error(`${program} ended with ${status}:\n${output}`)
  return found
}

// Ranks on two hosts, joined by TCP: the bits of one host, and an end when the network is cut.

import { afterAll, afterEach, describe, expect, test } from 'vitest'
import { makeHosts, onTwoHosts, removeHosts, setLink } from './hosts.js'
import { type Launch, launch, type Mpi, mpis, survivors } from './launch.js'
import { runRanks } from './run-ranks.js'

const problem = mpis.length === 0 ? 'no MPI is installed' : makeHosts()
if (problem) console.log(`skipped: ranks on two hosts: ${problem}`)
else afterAll(removeHosts)

interface Losses {
  together: number[]
}

interface Lost {
  error: { code: string; rank: number; message: string }
  seconds: number
}

/** Losses and norms of ranks that divide a table within a host, and hold the same on both. */
async function train(mpi: Mpi, how: Launch): Promise<number[][]> {
  const options = { kind: 'cpu', steps: 5, together: true, columns: 2 }
  const ranks = await runRanks<Losses>(4, 'training.ts', options, mpi, how)
  return ranks.map(({ together }) => together)
}

let one: Promise<number[][]> | undefined // on one host, under any MPI

describe.skipIf(problem)('two hosts', () => {
  afterEach(() => setLink('up'))

  describe.each(mpis)('%s', (mpi) => {
    test('train as one does', async () => {
      one ??= train(mpi, {})
      expect((await one)[0]?.length).toBe(15)
      expect(await train(mpi, onTwoHosts(mpi))).toEqual(await one)
    })

    test('each ends when the other is cut off', async () => {
      const { flags = [], ...two } = onTwoHosts(mpi)
      const { flags: more = [], wrapper = [] } = survivors[mpi]
      let cut = 0
      const { results, output } = await launch<Lost>(mpi, 4, 'faults.mjs', {
        ...two,
        flags: [...flags, ...more],
        wrapper,
        args: ['cut'],
        env: { TEST_CULPRIT: '-1' },
        whenAll() {
          cut = performance.now()
          setLink('down')
        },
        until: 4,
        limit: 50,
      })
      expect(performance.now() - cut).toBeLessThan(30_000)
      for (const [rank, lost] of results.entries()) {
        expect(lost?.error?.code, output).toBe('ERR_DISTRIBUTED')
        expect(rank < 2 ? [2, 3] : [0, 1], lost?.error.message).toContain(lost?.error.rank)
      }
    })
  })
})

// What a rank has to say, for the test that has launched it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { openDevice } from '../../../dist/index.js'

const { env } = process

/** Of the launcher; before initDistributed too. */
export const launchedRank = Number(env.OMPI_COMM_WORLD_RANK ?? env.PMI_RANK ?? 0)

/** Writes a rank's result, which replaces an earlier one. */
export function report(value) {
  writeFileSync(join(env.TEST_RESULTS, `${launchedRank}.json`), JSON.stringify(value))
}

/** The device that the test wants, one thread on the CPU: ranks share the cores. */
export function openTestDevice() {
  return env.TEST_DEVICE === 'simt' ? openDevice('simt') : openDevice('cpu', { threads: 1 })
}

/** What a promise or a function is refused with. */
export async function errorOf(action) {
  try {
    await action()
    return null
  } catch (error) {
    return { code: error.code, rank: error.rank ?? null, message: error.message }
  }
}

/** The numbers that a rank has in a test: no sum of them is exact. */
export function numbers(rank, count) {
  return Float32Array.from(
    { length: count },
    (_, i) => Math.sin((rank + 1) * 12.9898 + i * 78.233) * 10 ** ((i + rank) % 5),
  )
}

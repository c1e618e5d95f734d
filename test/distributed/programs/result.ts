// What a rank has found, for the test that has launched it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { MemoryLayersError } from '../../../lib/index.js'

/** Writes it where `launch` looks. */
export function report(rank: number, result: object): void {
  writeFileSync(join(process.env['TEST_RESULTS'] ?? '.', `${rank}.json`), JSON.stringify(result))
}

/** What a promise is refused with: the code, and the rows or the rank that it is about. */
export async function refusal(action: () => Promise<unknown>): Promise<object | null> {
  try {
    await action()
    return null
  } catch (error) {
    const { code, rank, rows, message } = error as MemoryLayersError
    return { code, message, rank, ...(rows && { rows: [...rows] }) }
  }
}

// What a rank has found, for the test that has launched it.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

/** Writes it where `launch` looks. */
export function report(rank: number, result: object): void {
  writeFileSync(join(process.env['TEST_RESULTS'] ?? '.', `${rank}.json`), JSON.stringify(result))
}

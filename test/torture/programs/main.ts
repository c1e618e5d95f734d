// Random programs of public calls against a float64 interpreter. They run in a process of their own
// (explore.ts), so that one that crashes is found and shrunk as well.

import { fork } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Part, type PartReport } from '../part.js'
import { crashOf, shrinkCrash } from './crash.js'

const work = fileURLToPath(new URL('../../../build/torture', import.meta.url))
const explore = fileURLToPath(new URL('./explore.ts', import.meta.url))
const shrinkSeconds = 60
const part = new Part()

/** Runs explore.ts to its end; its report, or how it ended. */
function exploreAll(note: string): Promise<PartReport | string> {
  return new Promise((resolve) => {
    const args = ['--seconds', String(part.seconds), '--seed', String(part.seed), '--note', note]
    const child = fork(explore, args)
    let report: PartReport | undefined
    child.on('message', (message) => {
      report = message as PartReport
    })
    child.on('exit', (status, signal) => resolve(report ?? signal ?? `exit code ${status}`))
  })
}

mkdirSync(work, { recursive: true })
const note = join(work, 'programs.json')
rmSync(note, { force: true })
const result = await exploreAll(note)
if (typeof result === 'string') {
  const crash = existsSync(note) ? JSON.parse(readFileSync(note, 'utf8')) : undefined
  const attempt = join(work, 'attempt.json')
  const smallest = crash && shrinkCrash(crash, attempt, shrinkSeconds)
  const how = smallest && crashOf(smallest, attempt)
  part.fail(
    `the process ended by ${result} with seed ${part.seed}; smallest programs, in ${attempt}:\n` +
      `  ${JSON.stringify(smallest)}\n  ${how ?? 'they do not crash alone'}`,
  )
} else {
  part.add(result)
}
part.end()

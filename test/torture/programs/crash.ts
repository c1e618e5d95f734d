// Programs that end the process, shrunk: each attempt is a process of its own.

import { spawnSync } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import type { DeviceName } from '../../../lib/index.js'
import type { Program } from './run.js'

/** The programs that ran at once when a process ended. */
export interface Crash {
  device: DeviceName
  programs: readonly Program[]
}

const replay = fileURLToPath(new URL('./replay.ts', import.meta.url))

/** The end of a process that runs the programs, as a message; undefined if it ends by itself. */
export function crashOf(crash: Crash, file: string): string | undefined {
  writeFileSync(file, JSON.stringify(crash))
  const { status, signal, stderr } = spawnSync(
    process.execPath,
    ['--import', 'tsx', replay, file],
    {
      encoding: 'utf8',
      timeout: 60_000,
    },
  )
  // Exit code 1 is an exception, which is no crash.
  if (signal === null && (status === 0 || status === 1)) return undefined
  return `${signal ?? `exit code ${status}`}\n${stderr.slice(0, 2000)}`
}

/** Leaves out steps, many at first, as long as the process still ends; for `seconds` at most. */
export function shrinkCrash(crash: Crash, file: string, seconds: number): Crash {
  const end = performance.now() + seconds * 1000
  let smallest = crash
  for (let p = 0; p < crash.programs.length; p++) {
    let size = smallest.programs[p]!.steps.length
    while (size >= 1 && performance.now() < end) {
      const without = (at: number): Crash => ({
        ...smallest,
        programs: smallest.programs.map((program, i) =>
          i === p
            ? { ...program, steps: program.steps.filter((_, s) => s < at || s >= at + size) }
            : program,
        ),
      })
      const at = smallest.programs[p]!.steps.findIndex(
        (_, s) => s % size === 0 && performance.now() < end && crashOf(without(s), file),
      )
      if (at >= 0) smallest = without(at)
      else size = Math.floor(size / 2)
    }
  }
  return smallest
}

// What was measured, stored in one file: a run replaces the cases that it measured and keeps the
// others, so a long benchmark can be run in steps. Results of another machine are dropped.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import type { CaseResult } from './groups/case.js'
import type { Machine } from './machine.js'

export interface Measured extends CaseResult {
  commit: string
  date: string
  command: string
}

export interface Results {
  machine: Machine
  /** Versions of the contenders, or why they were absent. */
  contenders: Record<string, string>
  cases: Record<string, Measured>
}

export const timingIn = (result: CaseResult, name: string, threads: number) =>
  result.timings.find((t) => t.name === name && t.threads === threads)

export function readResults(path: string): Results | undefined {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch {
    return undefined
  }
  return JSON.parse(text) as Results
}

/** In place of a version. */
export const leftOut = 'left out with --without'

export function merge(old: Results | undefined, fresh: Results): Results {
  const same = old && JSON.stringify(old.machine) === JSON.stringify(fresh.machine)
  const present = Object.fromEntries(
    Object.entries(fresh.contenders).filter(([, version]) => version !== leftOut),
  )
  return {
    ...fresh,
    // A contender that this run left out took part in cases that are kept.
    contenders: { ...fresh.contenders, ...(same ? old.contenders : {}), ...present },
    cases: { ...(same ? old.cases : {}), ...fresh.cases },
  }
}

export function writeResults(path: string, results: Results): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${JSON.stringify(results, undefined, 1)}\n`)
}

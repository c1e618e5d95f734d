// What was measured, kept in one file: a run replaces the cases it measured and keeps the others,
// so a long benchmark can be run in parts. Results of another machine are dropped.

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
  /** Versions of the contenders, and why others were absent, of the last run. */
  contenders: Record<string, string>
  cases: Record<string, Measured>
}

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
    // Whoever is left out of this run took part in cases that are kept.
    contenders: { ...fresh.contenders, ...(same ? old.contenders : {}), ...present },
    cases: { ...(same ? old.cases : {}), ...fresh.cases },
  }
}

export function writeResults(path: string, results: Results): void {
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, `${JSON.stringify(results, undefined, 1)}\n`)
}

// A case: one operation at one shape, and how to run it.

import type { Backend } from '../backends/backend.js'
import type { Ours } from '../backends/ours.js'
import type { HostTable } from '../data.js'
import {
  type Contender,
  type Effort,
  type Entrant,
  type Result,
  race,
  type Timing,
  WrongResult,
} from '../harness.js'
import type { TableDType } from '../shapes.js'

export interface Environment {
  effort: Effort
  /** All contenders, ours among them; each for the thread counts it is measured with. */
  backends: readonly Backend[]
  /** Processes that contenders run in. */
  helpers: readonly number[]
  /** Ours alone, with one and with all threads. */
  ours: readonly Ours[]
  table(slots: number, dim: number, dtype: TableDType): HostTable
}

export interface CaseResult {
  name: string
  /** What `work` counts: 'GB/s' with bytes, 'GFLOP/s' with operations. */
  unit?: 'GB/s' | 'GFLOP/s'
  /** Bytes or operations of one call. */
  work?: number
  /** What `work` is, in words. */
  of?: string
  timings: Timing[]
  /** Cores that other processes used meanwhile. */
  others?: number
  /** Further figures, by name. */
  notes?: Record<string, number>
  /** Contenders that could not take part, and why. */
  absent?: Record<string, string>
}

export interface Case {
  /** group/…/shape: what --only matches. */
  name: string
  /** What stays in memory from case to case; another value lets go of it. */
  resident: string
  run(env: Environment): Promise<CaseResult>
}

/**
 * Ours is wrong, or a contender is used wrongly: the benchmark fails. A contender that can't do a
 * problem is only left out.
 */
export class CheckFailed extends Error {}

/**
 * Asks every backend for a contender, checks each one's result, then times them together, and with
 * them the `extra` ones.
 */
export async function contest<P>(
  env: Environment,
  sets: number,
  problem: P,
  enter: (backend: Backend, problem: P) => Promise<Contender | undefined> | undefined,
  check: (result: Result, name: string) => void,
  extra: readonly Entrant[] = [],
): Promise<Pick<CaseResult, 'timings' | 'others' | 'absent'>> {
  const entrants: Entrant[] = [...extra]
  const absent: Record<string, string> = {}
  try {
    for (const backend of env.backends) {
      const { name, threads, settle } = backend
      try {
        const contender = await enter(backend, problem)
        if (!contender) continue
        entrants.push({ name, threads, contender, settle })
        const result = await contender.result()
        if (name !== 'ceiling') check(result, name)
      } catch (error) {
        const message = error instanceof Error ? error.message.split('\n')[0]! : String(error)
        if (error instanceof WrongResult)
          throw new CheckFailed(`${name}, ${threads} threads: ${message}`)
        if (name === 'memory-layers' || name === 'ceiling') throw error
        absent[name] = message
        if (entrants.at(-1)?.name === name && entrants.at(-1)?.threads === threads)
          await entrants.pop()!.contender.release?.()
      }
    }
    const { timings, others } = await race(entrants, sets, env.effort, env.helpers)
    return { timings, others, ...(Object.keys(absent).length > 0 && { absent }) }
  } finally {
    for (const { contender } of entrants) await contender.release?.()
  }
}

/** Up to `most` numbers spread over 0 … count - 1, the ends among them. */
export function spread(count: number, most: number): number[] {
  if (count <= most) return Array.from({ length: count }, (_, i) => i)
  return Array.from({ length: most }, (_, i) => Math.floor((i * (count - 1)) / (most - 1)))
}

/**
 * How many input sets it takes to read `bytes` a call and never meet a row in the cache again,
 * within reason.
 */
export const setsFor = (bytes: number): number =>
  Math.max(2, Math.min(16, Math.ceil(2 ** 27 / bytes)))

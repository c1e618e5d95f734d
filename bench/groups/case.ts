// A case: one operation at one shape, and how to run it.

import type { Backend } from '../backends/backend.js'
import type { Ours } from '../backends/ours.js'
import { WrongResult } from '../check.js'
import type { HostTable } from '../data.js'
import {
  type Contender,
  type Effort,
  type Participant,
  type Result,
  type Timing,
  timeRounds,
} from '../harness.js'
import type { TableDType } from '../shapes.js'

export interface Environment {
  effort: Effort
  /** Every backend for every thread count, ours among them. */
  backends: readonly Backend[]
  /** Processes that contenders run in. */
  pids: readonly number[]
  /** Ours alone, with one and with all threads. */
  ours: readonly Ours[]
  table(slots: number, dim: number, dtype: TableDType): Promise<HostTable>
}

export interface CaseResult {
  name: string
  /** What `work` counts: 'GB/s' with bytes, 'GFLOP/s' with operations. */
  unit?: 'GB/s' | 'GFLOP/s'
  /** Bytes or operations of one call. */
  work?: number
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
  /** What stays in memory from case to case; before another value it is freed. */
  resident: string
  run(env: Environment): Promise<CaseResult>
}

/**
 * Ours is wrong, or a contender is used wrongly: the benchmark fails. A contender that can't do a
 * problem is only left out.
 */
export class CheckFailed extends Error {}

/**
 * Asks every backend for a contender, checks each one's result, then times them together with the
 * `extra` participants.
 */
export async function compare(
  env: Environment,
  sets: number,
  prepare: (backend: Backend) => Promise<Contender | undefined> | undefined,
  check: (result: Result, name: string) => void,
  extra: readonly Participant[] = [],
): Promise<Pick<CaseResult, 'timings' | 'others' | 'absent'>> {
  const participants: Participant[] = [...extra]
  const absent: Record<string, string> = {}
  try {
    for (const backend of env.backends) {
      const { name, threads, settle } = backend
      let contender: Contender | undefined
      try {
        contender = await prepare(backend)
        if (!contender) continue
        const result = await contender.result()
        if (name !== 'ceiling') check(result, name)
        participants.push({ name, threads, contender, settle })
      } catch (error) {
        await contender?.release?.()
        const message = error instanceof Error ? error.message.split('\n')[0]! : String(error)
        if (error instanceof WrongResult)
          throw new CheckFailed(`${name}, ${threads} threads: ${message}`)
        if (name === 'memory-layers' || name === 'ceiling') throw error
        absent[name] = message
      }
    }
    const times = await timeRounds(participants, sets, env.effort, env.pids)
    return { ...times, ...(Object.keys(absent).length > 0 && { absent }) }
  } finally {
    for (const { contender } of participants) await contender.release?.()
  }
}

/** Input sets that read more than the caches hold before a row comes again, within reason. */
export const setsFor = (bytes: number): number =>
  Math.max(2, Math.min(16, Math.ceil(2 ** 27 / bytes)))

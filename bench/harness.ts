// Times contenders round by round, in rotating order: a change of the machine's speed meets all of
// them alike.

import { setTimeout as sleep } from 'node:timers/promises'
import { watchOthers } from './disturbance.js'

/** One implementation of an operation, prepared for the input sets 0 … sets - 1 of one problem. */
export interface Contender {
  /** Runs input set `set`; may only enqueue. */
  run(set: number): unknown
  /** Returns when everything enqueued has run. */
  wait?(): unknown
  /** Seconds for these sets in sequence, for contenders of another process. */
  time?(sets: readonly number[]): Promise<number>
  /** The outputs of set 0, for the check; called once, before timing. */
  result(): Promise<Result> | Result
  release?(): void | Promise<void>
}

/** Outputs by name. */
export type Result = Record<string, ArrayLike<number>>

export interface Timing {
  name: string
  threads: number
  /** Median and quartiles, in seconds a call. */
  seconds: number
  low: number
  high: number
  reps: number
  /** Seconds a call by round, null where it took no part: comparisons are within a round. */
  rounds?: readonly (number | null)[]
}

export interface Participant {
  name: string
  threads: number
  contender: Contender
  /** Milliseconds to wait after each of its reps. */
  settle?: number
}

export interface Effort {
  /** Seconds of timing for each contender. */
  budget: number
  minReps: number
  maxReps: number
  /** A rep lasts at least so many seconds, over several calls if need be. */
  rep: number
}

export const efforts: Record<'full' | 'quick' | 'tiny', Effort> = {
  full: { budget: 0.5, minReps: 3, maxReps: 31, rep: 0.008 },
  quick: { budget: 0.25, minReps: 3, maxReps: 15, rep: 0.008 },
  tiny: { budget: 0, minReps: 2, maxReps: 2, rep: 0 },
}

// A call shorter than so many seconds is made once before it is timed: the others have evicted its
// rows and its page table entries from the caches, and a contender of few calls in a rep would feel
// that more.
const warmUpBelow = 0.01

/** The samples of one participant. */
interface Series {
  participant: Participant
  /** Calls in a rep, and untimed calls before it. */
  calls: number
  warmUps: number
  reps: number
  /** By round; `disturbed` ones are used only where there are too few others. */
  samples: Map<number, number>
  disturbed: Map<number, number>
  nextSet: number
}

async function timeRep(series: Series, sets: number, calls: number): Promise<number> {
  const { contender, settle } = series.participant
  if (series.warmUps > 0) await timeCalls(contender, series, sets, series.warmUps)
  const seconds = await timeCalls(contender, series, sets, calls)
  if (settle) await sleep(settle)
  return seconds
}

async function timeCalls(
  contender: Contender,
  series: Series,
  sets: number,
  calls: number,
): Promise<number> {
  const order = Array.from({ length: calls }, () => series.nextSet++ % sets)
  if (contender.time) return (await contender.time(order)) / calls
  const begin = performance.now()
  for (const set of order) {
    const pending = contender.run(set)
    if (pending instanceof Promise) await pending
  }
  const last = contender.wait?.()
  if (last instanceof Promise) await last
  return (performance.now() - begin) / 1e3 / calls
}

/** Calibrates the calls in a rep and the number of reps. */
async function seriesOf(participant: Participant, sets: number, effort: Effort): Promise<Series> {
  const series: Series = {
    participant,
    calls: 1,
    warmUps: 0,
    reps: effort.minReps,
    samples: new Map(),
    disturbed: new Map(),
    nextSet: 1,
  }
  const first = await timeRep(series, sets, 1)
  const second = first > effort.budget ? first : await timeRep(series, sets, 1)
  series.warmUps = second < warmUpBelow ? 1 : 0
  series.calls = Math.max(1, Math.min(64, Math.ceil(effort.rep / second)))
  const reps = Math.round(effort.budget / (second * series.calls))
  series.reps = Math.max(effort.minReps, Math.min(effort.maxReps, reps))
  return series
}

// A round in which other processes used more of the machine than this, in cores, is repeated, up to
// as often as there are rounds.
export const maxOthers = 0.15

/**
 * Times participants that have been checked. `sets` input sets are used in rotation, so that rows
 * are not in the cache from the last call. `pids`: processes that contenders run in. `others`:
 * cores that other processes used on average meanwhile, where that is known.
 */
export async function timeRounds(
  participants: readonly Participant[],
  sets: number,
  effort: Effort,
  pids: readonly number[] = [],
): Promise<{ timings: Timing[]; others: number | undefined }> {
  const allOthers = watchOthers(pids)
  const list: Series[] = []
  for (const participant of participants) list.push(await seriesOf(participant, sets, effort))
  const rounds = Math.max(0, ...list.map((series) => series.reps))
  let repeats = rounds
  let run = 0
  for (let round = 0; round < rounds; round++, run++) {
    const others = watchOthers(pids)
    const times: [Series, number][] = []
    for (let i = 0; i < list.length; i++) {
      const series = list[(i + round) % list.length]!
      // A contender of few reps takes part in rounds spread over all of them.
      const repsBy = (end: number) => Math.floor((end * series.reps) / rounds)
      if (repsBy(round + 1) > repsBy(round))
        times.push([series, await timeRep(series, sets, series.calls)])
    }
    const disturbed = (others() ?? 0) > maxOthers
    for (const [series, seconds] of times)
      (disturbed ? series.disturbed : series.samples).set(run, seconds)
    if (disturbed && repeats > 0) {
      repeats--
      round--
    }
  }
  const timings = list.map(({ participant: { name, threads }, samples, disturbed }) => {
    const used = samples.size > 1 ? samples : new Map([...samples, ...disturbed])
    return timingOf(
      name,
      threads,
      Array.from({ length: run }, (_, i) => used.get(i) ?? null),
    )
  })
  return { timings, others: allOthers() }
}

/** The timing of samples by round, null where there was none. */
export function timingOf(
  name: string,
  threads: number,
  rounds: readonly (number | null)[],
): Timing {
  const sorted = rounds.filter((seconds) => seconds !== null).sort((a, b) => a - b)
  return {
    name,
    threads,
    seconds: quantile(sorted, 0.5),
    low: quantile(sorted, 0.25),
    high: quantile(sorted, 0.75),
    reps: sorted.length,
    rounds,
  }
}

export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)]!
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at))
}

export const median = (values: readonly number[]): number =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  )

const minCommonRounds = 3

/**
 * How many times as long `a` takes as `b`: the median of the ratios within the rounds in which both
 * took part, which a machine that slows down and recovers does not move; the ratio of the medians
 * where there are too few such rounds.
 */
export function ratioOf(a: Timing, b: Timing): number {
  const ratios = (a.rounds ?? []).flatMap((seconds, round) => {
    const other = b.rounds?.[round]
    return seconds && other ? [seconds / other] : []
  })
  return ratios.length < minCommonRounds ? a.seconds / b.seconds : median(ratios)
}

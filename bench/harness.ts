// Contenders for one problem: checked one by one, then timed rep by rep in rotating order, so that
// a change of the machine's mood meets all of them.

import { setTimeout as sleep } from 'node:timers/promises'
import { watchOthers } from './disturbance.js'

/** Somebody's way to do an operation, prepared for the input sets 0 … sets - 1 of one problem. */
export interface Contender {
  /** Runs input set `set`; may only enqueue. */
  run(set: number): unknown
  /** Returns when everything enqueued has run. */
  wait?(): unknown
  /** Seconds for these sets one after another, for contenders that are timed where they live. */
  time?(sets: readonly number[]): Promise<number>
  /** What set 0 gives, for the check; called once, before timing. */
  result(): Promise<Result> | Result
  release?(): void | Promise<void>
}

/** Named outputs, as a problem's check wants them. */
export type Result = Record<string, ArrayLike<number>>

export interface Timing {
  name: string
  threads: number
  /** Median seconds a call, and the quarter points. */
  seconds: number
  low: number
  high: number
  reps: number
  /**
   * Seconds a call by round of the race, nothing where it took no part: what is compared was timed
   * side by side.
   */
  rounds?: readonly (number | null)[]
}

export interface Entrant {
  name: string
  threads: number
  contender: Contender
  /** Milliseconds to wait after each of its reps. */
  settle?: number
}

export interface Effort {
  /** Seconds of timing for each contender. */
  budget: number
  fewest: number
  most: number
  /** A rep lasts at least so many seconds, over several calls if need be. */
  rep: number
}

export const efforts: Record<'full' | 'quick' | 'tiny', Effort> = {
  full: { budget: 0.5, fewest: 3, most: 31, rep: 0.008 },
  quick: { budget: 0.25, fewest: 3, most: 15, rep: 0.008 },
  tiny: { budget: 0, fewest: 2, most: 2, rep: 0 },
}

// A call shorter than so many seconds is made once before it is timed. The others have driven its
// rows and its part of the page table from the caches; whoever shares memory with another would be
// spared that, and whoever makes more calls in a rep would feel it less.
const warmed = 0.01

interface Lane {
  entrant: Entrant
  calls: number
  /** Calls before a rep that are not timed. */
  ahead: number
  reps: number
  /** By round. */
  samples: Map<number, number>
  /** Of rounds that other processes disturbed: used only where there are too few others. */
  disturbed: Map<number, number>
  next: number
}

async function once(lane: Lane, sets: number, calls: number): Promise<number> {
  const { contender, settle } = lane.entrant
  if (lane.ahead > 0) await timed(contender, lane, sets, lane.ahead)
  const seconds = await timed(contender, lane, sets, calls)
  if (settle) await sleep(settle)
  return seconds
}

async function timed(
  contender: Contender,
  lane: Lane,
  sets: number,
  calls: number,
): Promise<number> {
  const order = Array.from({ length: calls }, () => lane.next++ % sets)
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

export function quantile(sorted: readonly number[], q: number): number {
  const at = (sorted.length - 1) * q
  const below = sorted[Math.floor(at)]!
  return below + (sorted[Math.ceil(at)]! - below) * (at - Math.floor(at))
}

// A round in which others used more of the machine than this, in cores, is run again, up to as
// often as there are rounds.
export const mostOthers = 0.15

export interface Race {
  timings: Timing[]
  /** Cores that other processes used on average meanwhile; undefined where that can't be known. */
  others?: number
}

/**
 * Times entrants that have been checked. `sets` input sets are used in turn, so that rows are not
 * in the cache from the last call. `helpers`: processes of the entrants.
 */
export async function race(
  entrants: readonly Entrant[],
  sets: number,
  effort: Effort,
  helpers: readonly number[] = [],
): Promise<Race> {
  const whole = watchOthers(helpers)
  const lanes: Lane[] = []
  for (const entrant of entrants) {
    const lane: Lane = {
      entrant,
      calls: 1,
      ahead: 0,
      reps: effort.fewest,
      samples: new Map(),
      disturbed: new Map(),
      next: 1,
    }
    const first = await once(lane, sets, 1)
    const second = first > effort.budget ? first : await once(lane, sets, 1)
    lane.ahead = second < warmed ? 1 : 0
    lane.calls = Math.max(1, Math.min(64, Math.ceil(effort.rep / second)))
    lane.reps = Math.max(
      effort.fewest,
      Math.min(effort.most, Math.round(effort.budget / (second * lane.calls))),
    )
    lanes.push(lane)
  }
  const rounds = Math.max(0, ...lanes.map((lane) => lane.reps))
  let again = rounds
  let run = 0
  for (let round = 0; round < rounds; round++, run++) {
    const others = watchOthers(helpers)
    const times: [Lane, number][] = []
    for (let i = 0; i < lanes.length; i++) {
      const lane = lanes[(i + round) % lanes.length]!
      // A contender of few reps takes part in rounds spread over the whole race.
      const due =
        Math.floor(((round + 1) * lane.reps) / rounds) - Math.floor((round * lane.reps) / rounds)
      if (due > 0) times.push([lane, await once(lane, sets, lane.calls)])
    }
    const disturbed = (others() ?? 0) > mostOthers
    for (const [lane, seconds] of times)
      (disturbed ? lane.disturbed : lane.samples).set(run, seconds)
    if (disturbed && again > 0) {
      again--
      round--
    }
  }
  return { timings: lanes.map((lane) => timingOfLane(lane, run)), others: whole() }
}

function timingOfLane({ entrant, samples, disturbed }: Lane, runs: number): Timing {
  const used = samples.size > 1 ? samples : new Map([...samples, ...disturbed])
  return timingOf(
    entrant.name,
    entrant.threads,
    Array.from({ length: runs }, (_, run) => used.get(run) ?? null),
  )
}

const fewestPairs = 3

/**
 * How many times as long `a` takes as `b`: the median of the ratios of the rounds in which both
 * took part, which a machine that slows down and recovers does not move; of the medians where there
 * are too few such rounds.
 */
export function ratioOf(a: Timing, b: Timing): number {
  const ratios = (a.rounds ?? []).flatMap((seconds, round) => {
    const other = b.rounds?.[round]
    return seconds && other ? [seconds / other] : []
  })
  return ratios.length < fewestPairs
    ? a.seconds / b.seconds
    : quantile(
        ratios.sort((x, y) => x - y),
        0.5,
      )
}

/** The timing of what took so many seconds in each round, null where it took no part. */
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

export class WrongResult extends Error {}

/** Every number within `tolerance` of the wanted one, relative to the largest wanted magnitude. */
export function expectNear(
  what: string,
  got: ArrayLike<number> | undefined,
  wanted: ArrayLike<number>,
  tolerance: number,
): void {
  if (!got) throw new WrongResult(`${what} is missing`)
  if (got.length !== wanted.length)
    throw new WrongResult(`${what} has ${got.length} numbers, wanted ${wanted.length}`)
  let scale = 0
  for (let i = 0; i < wanted.length; i++) scale = Math.max(scale, Math.abs(wanted[i]!))
  for (let i = 0; i < wanted.length; i++) {
    const error = Math.abs(got[i]! - wanted[i]!)
    if (!(error <= tolerance * scale))
      throw new WrongResult(
        `${what}[${i}] is ${got[i]}, wanted ${wanted[i]} within ${tolerance} of ${scale}`,
      )
  }
}

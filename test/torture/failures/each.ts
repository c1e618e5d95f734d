// Makes the n-th inner call of a kind fail, for every n, and states what must be true afterwards.

import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { type Device, MemoryLayersError } from '../../../lib/index.js'
import type { Part } from '../part.js'
import type { Call, Files, Made } from './calls.js'
import { difference, disposeState, makeState, snapshot, voidBits } from './state.js'

/** How inner calls of a kind are made to fail. */
export interface Seam {
  name: string
  /** From here on `after` calls succeed, and the next one fails. */
  failAfter(after: number): void
  /** No call fails; returns how many there were. */
  stop(): number
  /** The codes that such a failure may have. */
  codes: readonly string[]
}

interface Outcome {
  error: unknown
  /** The call returned; the error came with the wait for its work. */
  late: boolean
  bits: Record<string, string>
  numbers: string
  allocated: number
  inner: number
}

/** Runs a call on a new state; `after` undefined: nothing fails. */
async function attempt(
  device: Device,
  call: Call,
  seam: Seam,
  files: Files,
  after: number | undefined,
  use: (outcome: Outcome, before: Outcome, again: () => Promise<Outcome>) => Promise<void>,
): Promise<void> {
  const s = await makeState(device)
  const doomed = call.doomed?.(s)
  const allocatedNow = () => device.memory().allocated + s.other.memory().allocated
  const outcome = async (
    made: Made,
    inner: number,
    error?: unknown,
    late = false,
  ): Promise<Outcome> => {
    const numbers = made.flatMap((m) => ('length' in m ? Array.from(m) : [])).join()
    for (const m of made) if (!('length' in m)) m[Symbol.dispose]()
    await settle(device)
    await settle(s.other)
    const allocated = allocatedNow()
    return { error, late, numbers, allocated, inner, bits: await snapshot(s) }
  }
  const once = async (fails: number): Promise<Outcome> => {
    let error: unknown
    let made: Made | undefined
    seam.failAfter(fails)
    try {
      if (doomed) doomed[Symbol.dispose]()
      made = (await call.run?.(s, files)) ?? []
      // A call has returned before its work has run: what that finds comes with a wait.
      await device.synchronize()
    } catch (e) {
      error = e
    }
    const inner = seam.stop()
    return outcome(made ?? [], inner, error, error !== undefined && made !== undefined)
  }
  try {
    const before = await outcome([], 0)
    await use(await once(after ?? Infinity), before, () => once(Infinity))
  } finally {
    doomed?.[Symbol.dispose]()
    disposeState(s)
    await settle(device)
  }
}

/** Waits until all work has run and every fault of it has been reported. */
async function settle(device: Device): Promise<void> {
  for (let reports = 0; reports < 10; reports++) {
    const fault = await device.synchronize().catch((error) => error)
    if (!fault) return
  }
}

function fileOf({ target }: Files): string {
  try {
    return readFileSync(target, 'base64')
  } catch {
    return ''
  }
}

/** Every n of one call, or every `stride`-th, until `share` of the time has gone. */
export async function failEach(
  part: Part,
  device: Device,
  call: Call,
  seam: Seam,
  files: Files,
  stride: number,
  share: number,
): Promise<void> {
  let sound: Outcome | undefined
  rmSync(files.target, { force: true })
  let initial: Outcome | undefined
  await attempt(device, call, seam, files, undefined, async (outcome, before) => {
    sound = outcome
    initial = before
  })
  const [wanted, started] = [sound!, initial!]
  const where = `${call.name} on ${device.name}`
  if (wanted.error) {
    part.fail(`${where} fails by itself: ${wanted.error}`)
    return
  }
  const file = fileOf(files)
  for (let n = part.seed % stride; n < wanted.inner; n += stride) {
    if (!part.timeLeft(share)) {
      part.count('left out for want of time', Math.ceil((wanted.inner - n) / stride))
      return
    }
    part.count(`${seam.name} that failed`)
    const name = `${where}, ${seam.name} ${n + 1} of ${wanted.inner} fails`
    if (n % 2 === 0) rmSync(files.target, { force: true })
    else writeFileSync(files.target, 'old')
    const old = fileOf(files)
    await attempt(device, call, seam, files, n, async (outcome, before, again) => {
      const { error, late } = outcome
      if (call.doomed) part.check(!error || late, () => `${name}: ${describe(error)}`)
      if (error === undefined) {
        check(part, `${name}; the call succeeds`, outcome, wanted)
        const more = outcome.allocated - before.allocated - (wanted.allocated - started.allocated)
        part.check(more <= 0, () => `${name}; the call succeeds: ${more} bytes more are allocated`)
        return
      }
      const coded = error instanceof MemoryLayersError && seam.codes.includes(error.code)
      part.check(coded, () => `${name}: wanted ${seam.codes.join(' or ')}, got ${describe(error)}`)
      if (late) {
        checkPieces(part, `${name}, in work that was enqueued`, outcome, before, wanted)
        return
      }
      check(part, `${name}; state after the error`, { ...outcome, numbers: '' }, before)
      const more = outcome.allocated - before.allocated
      part.check(more <= 0, () => `${name}: ${more} bytes more are allocated`)
      part.check(fileOf(files) === old, () => `${name}: the file has changed`)
      const next = await again()
      part.check(next.error === undefined, () => `${name}; the next call: ${describe(next.error)}`)
      if (next.error === undefined) {
        check(part, `${name}; the next call`, next, wanted)
        const saved = file === '' || fileOf(files) === file
        part.check(saved, () => `${name}; the next call: another file`)
      }
    }).catch((e) => part.fail(`${name}: ${describe(e)}`))
  }
}

function check(part: Part, name: string, got: Outcome, wanted: Outcome): void {
  const differs = difference(got.bits, wanted.bits)
  part.check(differs === undefined, () => `${name}: ${differs} has changed`)
  part.check(got.numbers === wanted.numbers, () => `${name}: other numbers`)
}

/**
 * What work finds after its call has returned skips that piece of work alone: each tensor is what
 * it was or what it would have been, or void where it was to be overwritten; none is torn.
 */
function checkPieces(part: Part, name: string, got: Outcome, before: Outcome, wanted: Outcome) {
  const torn = Object.keys(got.bits).find((piece) => {
    const bits = got.bits[piece]
    return bits !== voidBits && bits !== before.bits[piece] && bits !== wanted.bits[piece]
  })
  part.check(torn === undefined, () => `${name}: ${torn} is neither old nor new`)
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  return error instanceof MemoryLayersError ? `${error}` : (error.stack ?? `${error}`)
}

// Random programs on every device: alone, and two at once on one device as two requests of a
// server. What differs is shrunk to a short program. Each is written to the file that `--note`
// names before it runs, for main.ts to find should the process end.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { type Device, type DeviceName, devices, openDevice } from '../../../lib/index.js'
import { Part } from '../part.js'
import { type Program, runProgram, stepNames } from './run.js'

const part = new Part()
const note = process.argv[process.argv.indexOf('--note') + 1]!
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-programs-'))
const other = openDevice('cpu', { threads: openDevice('cpu').threads + 1 })

const profile = fc.record({
  T: fc.integer({ min: 1, max: 6 }),
  C: fc.constantFrom(1, 3, 8, 17),
  n: fc.integer({ min: 2, max: 5 }),
  H: fc.integer({ min: 1, max: 2 }),
  k: fc.integer({ min: 1, max: 4 }),
  d: fc.integer({ min: 1, max: 4 }),
  V: fc.integer({ min: 1, max: 9 }),
  seed: fc.nat(1 << 16),
})
const stepCall = fc.record({
  step: fc.constantFrom(...stepNames),
  picks: fc.array(fc.nat((1 << 16) - 1), { minLength: 6, maxLength: 6 }),
})

function programs(maxLength: number): fc.Arbitrary<Program> {
  return fc.record({ profile, steps: fc.array(stepCall, { maxLength, size: 'max' }) })
}

// A failing program is shrunk for this long.
const shrinkSeconds = 60

/** Runs `flows` programs at once until the time is over; reports the smallest that differs. */
async function tryPrograms(device: Device, flows: number, share: number, length: number) {
  const name = `${flows === 1 ? 'programs' : 'pairs of programs'} on ${device.name}`
  const end = performance.now() + share * part.seconds * 1000
  let shrinkEnd = Infinity
  const property = fc.asyncProperty(
    fc.tuple(...Array.from({ length: flows }, () => programs(length))),
    async (list) => {
      if (performance.now() > shrinkEnd) return
      writeFileSync(note, JSON.stringify({ device: device.name, programs: list }))
      try {
        const compared = await Promise.all(
          list.map((p) => runProgram(device, other, p, folder, flows === 1)),
        )
        part.count(name)
        part.count('numbers compared', sum(compared))
        part.count('steps', sum(list.map((p) => p.steps.length)))
      } catch (error) {
        shrinkEnd = Math.min(shrinkEnd, performance.now() + shrinkSeconds * 1000)
        throw error
      }
    },
  )
  for (let batch = 0; performance.now() < end; batch++) {
    const seed = part.seed + batch
    const result = await fc.check(property, { seed, numRuns: 10 })
    const ok = part.check(!result.failed, () => {
      const programs = JSON.stringify(result.counterexample?.[0])
      return `${name}, seed ${seed}: ${result.errorInstance}\n  ${programs}`
    })
    if (!ok) return
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0)
}

for (const { name, kind } of devices().filter((d) => d.available)) {
  const device = openDevice(name as DeviceName)
  const share = kind === 'simt' ? 0.15 : 0.3
  await tryPrograms(device, 1, share, kind === 'simt' ? 12 : 40)
  await tryPrograms(device, 2, share, kind === 'simt' ? 8 : 40)
}
rmSync(folder, { recursive: true, force: true })
part.end()

// What the demo prints: the table of results, and the profile of a training step.

import { styleText } from 'node:util'
import { type Facts, majority } from './data.js'
import { type Kind, multiplyAdds } from './model.js'
import type { Point, Profile } from './train.js'

export interface Result {
  label: string
  kind: Kind
  epochs: number
  points: Point[]
  size: number
}

export const percent = (x: number) => `${(x * 100).toFixed(2)} %`
export const thousands = (x: number) => x.toLocaleString('en')

/** The device's operations by their share of a training step, and the time between them. */
export function printProfile(profile: Profile, steps: number, seconds: number): void {
  const wall = (seconds * 1000) / steps
  const row = (name: string, calls: string, ms: number) => {
    const share = ((100 * ms) / wall).toFixed(1)
    const columns = [calls.padStart(5), ms.toFixed(3).padStart(12), share.padStart(8)]
    console.log(`    ${name.padEnd(32)} ${columns.join(' ')} %`)
  }
  console.log(`\n    ${'operation'.padEnd(32)} calls   ms of a step   of the step`)
  const sorted = Object.entries(profile).sort((a, b) => b[1].milliseconds - a[1].milliseconds)
  for (const [name, t] of sorted) row(name, (t.calls / steps).toFixed(1), t.milliseconds / steps)
  const busy = sorted.reduce((sum, [, t]) => sum + t.milliseconds, 0) / steps
  row('between operations', '', Math.max(0, wall - busy))
  row('whole step', '', wall)
  console.log('')
}

// Fewer steps than this move most rows of the table only a little.
const fewSteps = 1000

/** Says so where a run is too short to show what a memory learns. */
export function printShortness(epochs: number, stepsOfEpoch: number): void {
  const steps = epochs * stepsOfEpoch
  if (steps >= fewSteps) return
  const enough = Math.ceil(fewSteps / stepsOfEpoch)
  const more = `With --epochs ${enough} there are ${thousands(enough * stepsOfEpoch)}.`
  console.log(
    `\n  ${thousands(steps)} steps are few: a row of a memory learns only when it is read, so\n` +
      `  with few steps a dense block may win. ${more}`,
  )
}

export function printTable(results: readonly Result[], facts: Facts): void {
  const rows = results.map((r) => {
    const last = r.points.at(-1)!
    return [
      r.label,
      percent(last.recall),
      String(r.epochs),
      last.seconds.toFixed(1),
      thousands(r.size),
      thousands(multiplyAdds),
    ]
  })
  rows.push(['always the largest country', percent(majority(facts)), '', '', '', ''])
  const head = ['model', 'recall', 'epochs', 'seconds', 'parameters', 'multiply-adds of the block']
  const widths = head.map((h, c) => Math.max(h.length, ...rows.map((r) => r[c]!.length)))
  const line = (r: readonly string[]) =>
    `  ${r.map((v, c) => (c === 0 ? v.padEnd(widths[c]!) : v.padStart(widths[c]!))).join('   ')}`
  console.log(`\n${styleText('bold', line(head))}`)
  for (const r of rows) console.log(line(r))
  console.log(
    '\n  Recall is measured on all facts that were trained. There is no held-out set: ' +
      'a fact outside the training data cannot be known.',
  )
}

// The report of study 1.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Line, lineChart } from './charts.js'
import { number, percent, type Table, table } from './markdown.js'
import type { FactsOfSet, Measured } from './study-facts.js'
import { multiplyAdds } from './systems.js'

/** Means over seeds of the recall after the last epoch, and how far the seeds lie apart. */
export function finalRecall({ runs }: Measured): { mean: number; spread: number } {
  const recalls = runs.map(({ points }) => points.at(-1)!.recall)
  const mean = recalls.reduce((sum, r) => sum + r, 0) / recalls.length
  return { mean, spread: Math.max(...recalls) - Math.min(...recalls) }
}

/** Writes the charts of all sets to a folder; returns the section of the page. */
export function reportFacts(folder: string, sets: readonly FactsOfSet[]): string {
  return [
    '## Study 1: facts',
    [
      'One residual block and a linear classifier, `logits = W (x + block(x)) + b`; a name comes',
      'as a fixed random projection of its character n-grams, which nothing trains. Recall is of',
      'the facts that were trained. All blocks have as many multiply-adds a fact, but for',
      '"dense x2" and "dense x4".',
    ].join(' '),
    ...sets.map((set) => reportSet(folder, set)),
  ].join('\n\n')
}

function reportSet(folder: string, found: FactsOfSet): string {
  const { set, systems, slots, ablations } = found
  const file = (name: string) => `${set.name}-${name}.svg`
  const write = (name: string, svg: string) => writeFileSync(join(folder, file(name)), svg)
  write('epochs', lineChart(curves(systems, 'epoch'), axes(set.title, 'epochs')))
  write('seconds', lineChart(curves(systems, 'seconds'), axes(set.title, 'seconds of training')))
  const parts = [
    `### ${set.title}`,
    `${number(set.answers.length)} facts, ${set.classes} answers; the most frequent one is ` +
      `${percent(set.majority)}.`,
    table(systemsTable(systems)),
    `![Recall over epochs](${file('epochs')})`,
    `![Recall over seconds](${file('seconds')})`,
    claims(found),
  ]
  if (slots.length > 0) {
    const points = slots.map((s) => ({ x: slotsOf(s), y: 100 * finalRecall(s).mean }))
    const chart = lineChart([{ label: 'Memory+', points }], {
      title: `${set.title}: recall over slots`,
      x: 'slots',
      y: 'recall, %',
      logarithmic: true,
    })
    write('slots', chart)
    const head = ['slots', 'multiply-adds', 'recall']
    const rows = slots.map((s) => [number(slotsOf(s)), number(multiplyAdds(s.shape)), recall(s)])
    parts.push('#### Slots at constant compute', table({ head, rows }))
    parts.push(`![Recall over slots](${file('slots')})`)
  }
  if (ablations.length > 0) {
    const head = ['Memory+ but', 'multiply-adds', 'parameters', 'recall']
    const rows = ablations.map((s) => [
      s.label,
      number(multiplyAdds(s.shape)),
      number(s.runs[0]!.parameters),
      recall(s),
    ])
    parts.push('#### Ablations, one seed each', table({ head, rows }))
  }
  return parts.join('\n\n')
}

function slotsOf({ shape }: Measured): number {
  return shape.kind === 'memory' || shape.kind === 'peer' ? shape.nKeys ** 2 : 0
}

const axes = (title: string, x: string) => ({ title: `${title}: recall`, x, y: 'recall, %' })

function recall(measured: Measured): string {
  const { mean, spread } = finalRecall(measured)
  return measured.runs.length > 1 ? `${percent(mean)} (${percent(spread)} apart)` : percent(mean)
}

/** Means over seeds after each epoch. */
function curves(systems: readonly Measured[], x: 'epoch' | 'seconds'): Line[] {
  const mean = (runs: Measured['runs'], i: number, what: 'recall' | 'epoch' | 'seconds') =>
    runs.reduce((sum, run) => sum + run.points[i]![what], 0) / runs.length
  return systems.map(({ label, runs }) => ({
    label,
    points: runs[0]!.points.map((_, i) => ({
      x: mean(runs, i, x),
      y: 100 * mean(runs, i, 'recall'),
    })),
  }))
}

function systemsTable(systems: readonly Measured[]): Table {
  const seconds = ({ runs }: Measured) =>
    runs.reduce((sum, { points }) => sum + points.at(-1)!.seconds, 0) / runs.length
  return {
    head: ['system', 'multiply-adds', 'parameters', 'lr', 'tables', 'seconds', 'recall'],
    rows: systems.map((s) => [
      s.label,
      number(multiplyAdds(s.shape)),
      number(s.runs[0]!.parameters),
      String(s.rates.lr),
      s.shape.kind === 'memory' || s.shape.kind === 'peer' ? String(s.rates.tableLr) : '',
      seconds(s).toFixed(1),
      recall(s),
    ]),
  }
}

/** What the paper says, and whether it is so here. */
export function claims({ systems, slots }: FactsOfSet): string {
  const of = (label: string) => systems.find((s) => s.label === label)
  const memory = finalRecall(of('Memory+')!).mean
  const lines: string[] = []
  const say = (claim: string, holds: boolean) =>
    lines.push(`- ${claim}: **${holds ? 'so it is here' : 'not so here'}**`)
  for (const [label, relation] of [
    ['dense x4', 'above'],
    ['MoE', 'level with or above'],
    ['PEER', 'level with or above'],
  ] as const) {
    const other = of(label)
    if (!other) continue
    const { mean, spread } = finalRecall(other)
    const slack = relation === 'above' ? 0 : -spread
    say(`Memory+ is ${relation} ${label} after as many epochs`, memory - mean > slack)
  }
  if (slots.length > 1) {
    const recalls = slots.map((s) => finalRecall(s).mean)
    const rising = recalls.every((r, i) => i === 0 || r >= recalls[i - 1]!)
    say('More slots remember more at constant compute', rising)
  }
  return lines.join('\n')
}

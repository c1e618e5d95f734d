// Results as text, for the terminal and for docs/benchmarks.md alike: rows of cells, then tables.

import type { CaseResult } from './groups/case.js'
import { maxOthers, ratioOf, type Timing } from './harness.js'
import { type Results, timingIn } from './results.js'
import { type Target, targets } from './targets.js'

type Row = readonly string[]

export const unique = <T>(values: readonly T[]): T[] => [...new Set(values)]

function duration(seconds: number): string {
  const us = seconds * 1e6
  if (us < 100) return `${us.toFixed(1)} µs`
  if (us < 10_000) return `${us.toFixed(0)} µs`
  return us < 1e7 ? `${(us / 1e3).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`
}

const number = (x: number) =>
  Math.abs(x) >= 100 || Number.isInteger(x) ? x.toFixed(0) : x.toFixed(2)

/** Half the distance between the quartiles, in percent of the median. */
const spreadOf = (t: Timing) => `±${((50 * (t.high - t.low)) / t.seconds).toFixed(0)} %`

/** How many times as long as ours, with the same threads. */
export function ratioToOurs(result: CaseResult, t: Timing | undefined): number | undefined {
  const ours = t && timingIn(result, 'memory-layers', t.threads)
  return ours && ratioOf(t, ours)
}

// The order of a case's cells. The first ones are of memory-layers.
const titles = [
  'memory-layers',
  'rate',
  'of ceiling',
  'spread',
  'ceiling',
  'half scores alone',
  'whole rows, L1d prefetch',
  'plain loop',
  'onnxruntime-node',
  'PyTorch',
]
const rank = (title: string) => (titles.includes(title) ? titles.indexOf(title) : titles.length)

/** Title and text of what was measured; `a / b`: one thread / all threads; (x): times ours. */
function cellsOf(result: CaseResult): [string, string][] {
  const { timings, unit, work } = result
  const threads = unique(timings.map((t) => t.threads)).sort((a, b) => a - b)
  const of = (name: string) => threads.map((n) => timingIn(result, name, n))
  const each = (name: string, text: (t: Timing) => string) =>
    of(name)
      .map((t) => (t ? text(t) : '–'))
      .join(' / ')
  const ours = timings.some((t) => t.name === 'memory-layers')
  const cells = unique(timings.map((t) => t.name)).map((name): [string, string] => {
    const time = each(name, (t) => duration(t.seconds) + (ours ? '' : ` ${spreadOf(t)}`))
    const ratios = of(name)
      .map((t) => ratioToOurs(result, t))
      .filter((r) => r !== undefined)
      .map((r) => `${r.toFixed(r < 10 ? 1 : 0)}x`)
    const compared = ratios.length > 0 && name !== 'memory-layers' && name !== 'ceiling'
    return [name, compared ? `${time} (${ratios.join(' / ')})` : time]
  })
  if (ours) cells.push(['spread', each('memory-layers', spreadOf)])
  if (ours && unit && work) {
    const rate = each('memory-layers', (t) => (work / t.seconds / 1e9).toFixed(1))
    cells.push(['rate', `${rate} ${unit}`])
  }
  if (ours && timings.some((t) => t.name === 'ceiling'))
    cells.push(['of ceiling', each('ceiling', (t) => ratioToOurs(result, t)?.toFixed(2) ?? '–')])
  return cells.sort(([a], [b]) => rank(a) - rank(b))
}

/** The cells of a case, then its notes and whatever went wrong. */
export function rowsOfCase(result: CaseResult): [string, string][] {
  const { notes = {}, absent = {}, others = 0 } = result
  const rows = cellsOf(result)
  for (const [name, value] of Object.entries(notes)) rows.push([name, number(value)])
  for (const [name, why] of Object.entries(absent)) rows.push([name, `could not take part: ${why}`])
  if (others > maxOthers)
    rows.push(['disturbed', `other processes used ${others.toFixed(1)} cores meanwhile`])
  return rows
}

const markdownTable = (head: Row, rows: readonly Row[]): string[] =>
  [head, head.map(() => '---'), ...rows].map((row) => `| ${row.join(' | ')} |`)

/** One row for each case, one column for each title. */
export function casesTable(cases: readonly CaseResult[]): string[] {
  const rows = cases.map((result) => new Map(cellsOf(result)))
  const columns = unique(rows.flatMap((row) => [...row.keys()])).sort((a, b) => rank(a) - rank(b))
  return markdownTable(
    ['', ...columns],
    rows.map((row, i) => [
      cases[i]!.name.replace(/^\w+\//, ''),
      ...columns.map((title) => row.get(title) ?? ''),
    ]),
  )
}

/** Columns aligned by spaces; those of `right`, to the right. */
export function textTable(rows: readonly Row[], right: readonly number[] = []): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)))
  const cell = (text: string, column: number) =>
    right.includes(column) ? text.padStart(widths[column]!) : text.padEnd(widths[column]!)
  return rows.map((row) => `  ${row.map(cell).join('  ')}`.trimEnd()).join('\n')
}

export const caseText = (result: CaseResult) => `${result.name}\n${textTable(rowsOfCase(result))}\n`

const targetTitles = ['operation', 'quantity', 'target', 'measured', 'worst', 'reached']

function targetRow({ operation, quantity, bound, figures, reached }: Target): Row {
  const { median, min, max, count } = figures ?? { median: 0, min: 0, max: 0, count: 0 }
  const range = count > 1 ? ` (${number(min)} … ${number(max)}, ${count})` : ''
  const measured = count > 0 ? number(median) + range : 'not measured'
  const worst = count > 1 && bound ? number(bound.startsWith('>=') ? min : max) : ''
  const verdict = reached === undefined ? '' : reached ? 'yes' : 'no'
  return [operation, quantity, bound, measured, worst, verdict]
}

export const targetsTable = (results: Results): string[] =>
  markdownTable(targetTitles, targets(results).map(targetRow))

/** The targets that these results say something about; empty where there is none. */
export function targetsText(results: Results): string {
  const known = targets(results).filter(({ figures }) => figures)
  if (known.length === 0) return ''
  return `Targets: median over shapes and threads (min … max, how many figures)
${textTable([targetTitles, ...known.map(targetRow)])}`
}

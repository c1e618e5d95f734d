// Results as text: times, rates, shares of the ceiling, and how many times as long the others take.

import type { CaseResult } from './groups/case.js'
import { mostOthers, ratioOf, type Timing } from './harness.js'

export function duration(seconds: number): string {
  const us = seconds * 1e6
  if (us < 100) return `${us.toFixed(1)} µs`
  if (us < 10_000) return `${us.toFixed(0)} µs`
  return us < 1e7 ? `${(us / 1e3).toFixed(1)} ms` : `${(us / 1e6).toFixed(1)} s`
}

export const rate = (result: CaseResult, t: Timing): string =>
  result.unit && result.work
    ? `${(result.work / t.seconds / 1e9).toFixed(result.unit === 'GB/s' ? 1 : 0)} ${result.unit}`
    : ''

/** Half the distance between the quarter points, in percent of the median. */
export const spreadOf = (t: Timing): string =>
  `±${((50 * (t.high - t.low)) / t.seconds).toFixed(0)} %`

export const timingOf = (
  result: CaseResult | undefined,
  name: string,
  threads: number,
): Timing | undefined => result?.timings.find((t) => t.name === name && t.threads === threads)

/** Share of the ceiling with the same threads. */
export function share(result: CaseResult, t: Timing): number | undefined {
  const ceiling = timingOf(result, 'ceiling', t.threads)
  return ceiling && t.name !== 'ceiling' ? ratioOf(ceiling, t) : undefined
}

/**
 * How many times as long as ours it takes: with the same threads, or with one where it has only
 * one.
 */
export function slower(result: CaseResult, t: Timing): number | undefined {
  const ours = timingOf(result, 'memory-layers', t.threads)
  return ours && t !== ours ? ratioOf(t, ours) : undefined
}

export interface Row {
  label: string
  time: string
  spread: string
  rate: string
  share: string
  ratio: string
}

export function rowsOf(result: CaseResult): Row[] {
  return result.timings.map((t) => {
    const of = share(result, t)
    const ratio = t.name === 'ceiling' ? undefined : slower(result, t)
    return {
      label:
        t.threads === 0 ? t.name : `${t.name}, ${t.threads} thread${t.threads === 1 ? '' : 's'}`,
      time: duration(t.seconds),
      spread: spreadOf(t),
      rate: rate(result, t),
      share: of === undefined ? '' : of.toFixed(2),
      ratio: ratio === undefined ? '' : `${ratio.toFixed(ratio < 10 ? 2 : 0)}x`,
    }
  })
}

export function print(result: CaseResult): string {
  const rows = rowsOf(result)
  const width = (pick: (row: Row) => string, title: string) =>
    Math.max(title.length, ...rows.map((row) => pick(row).length))
  const titles: Row = {
    label: '',
    time: 'time',
    spread: '',
    rate: result.unit ?? '',
    share: rows.some((r) => r.share) ? 'of ceiling' : '',
    ratio: rows.some((r) => r.ratio) ? 'x ours' : '',
  }
  const columns: [(row: Row) => string, string][] = [
    [(r) => r.time, titles.time],
    [(r) => r.spread, titles.spread],
    [(r) => r.rate, titles.rate],
    [(r) => r.share, titles.share],
    [(r) => r.ratio, titles.ratio],
  ]
  const first = width((r) => r.label, titles.label)
  const line = (row: Row, wanted = columns.map(([pick]) => pick(row))) =>
    `  ${row.label.padEnd(first)}${wanted.map((text, i) => `  ${text.padStart(width(columns[i]![0], columns[i]![1]))}`).join('')}`.trimEnd()
  const head = line(
    titles,
    columns.map(([, title]) => title),
  )
  const notes = Object.entries(result.notes ?? {}).map(
    ([name, value]) => `  ${name}: ${Number.isInteger(value) ? value : value.toPrecision(4)}`,
  )
  const absent = Object.entries(result.absent ?? {}).map(
    ([name, why]) => `  ${name} could not take part: ${why}`,
  )
  const disturbed =
    result.others !== undefined && result.others > mostOthers
      ? [`  disturbed: other processes used ${result.others.toFixed(1)} cores meanwhile`]
      : []
  return [
    result.name,
    head,
    ...rows.map((row) => line(row)),
    ...notes,
    ...absent,
    ...disturbed,
  ].join('\n')
}

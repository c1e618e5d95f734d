// Recall over epochs and over seconds, as one SVG with two panels.

import { writeFile } from 'node:fs/promises'
import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'
import type { Point } from './train.js'

export interface Run {
  label: string
  points: Point[]
}

const colors = ['#0b6e4f', '#c8553d', '#e0a458']
const panelWidth = 430
const panelHeight = 320

function panel(
  document: object,
  runs: readonly Run[],
  x: 'epoch' | 'seconds',
  label: string,
): string {
  const rows = runs.flatMap((run) =>
    run.points.map((p) => ({ x: p[x], recall: p.recall * 100, run: run.label })),
  )
  const svg = Plot.plot({
    document: document as never,
    width: panelWidth,
    height: panelHeight,
    marginLeft: 48,
    marginRight: 16,
    marginBottom: 44,
    style: { fontFamily: 'system-ui, sans-serif', fontSize: '12px', background: 'white' },
    x: { label, labelAnchor: 'center', labelArrow: 'none', labelOffset: 38 },
    y: { label: 'recall of all facts, %', labelArrow: 'none', domain: [0, 100], grid: true },
    color: { domain: runs.map((r) => r.label), range: colors },
    marks: [
      Plot.ruleY([0]),
      Plot.line(rows, { x: 'x', y: 'recall', stroke: 'run', strokeWidth: 2 }),
      Plot.dot(rows, { x: 'x', y: 'recall', fill: 'run', r: 2.2 }),
    ],
  })
  return svg.outerHTML
}

const escaped = (text: string) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;')

/** An SVG element. */
function element(
  name: string,
  attributes: Record<string, string | number>,
  ...children: readonly string[]
): string {
  const list = Object.entries(attributes).map(([key, value]) => ` ${key}="${value}"`)
  return `<${name}${list.join('')}>${children.join('')}</${name}>`
}

function legendEntry(run: Run, i: number): string {
  const line = element('rect', { width: 14, height: 4, y: -5, fill: colors[i] ?? 'black' })
  const label = element('text', { x: 20 }, escaped(run.label))
  return element('g', { transform: `translate(${24 + i * 280},44)` }, line, label)
}

export async function writeChart(
  path: string,
  title: string,
  runs: readonly Run[],
  note: string,
): Promise<void> {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const xmlns = 'http://www.w3.org/2000/svg'
  const top = 62
  const panels = [
    panel(document, runs, 'epoch', 'epochs'),
    panel(document, runs, 'seconds', 'seconds of training'),
  ].map((svg, i) =>
    svg.replace('<svg', `<svg xmlns="${xmlns}" x="${i * (panelWidth + 10)}" y="${top}"`),
  )
  const width = panelWidth * 2 + 20
  const height = top + panelHeight + 26
  const chart = element(
    'svg',
    {
      xmlns,
      width,
      height,
      viewBox: `0 0 ${width} ${height}`,
      'font-family': 'system-ui, sans-serif',
      'font-size': 12,
    },
    element('rect', { width: '100%', height: '100%', fill: 'white' }),
    element('text', { x: 24, y: 24, 'font-size': 16, 'font-weight': 600 }, escaped(title)),
    ...runs.map(legendEntry),
    ...panels,
    element('text', { x: 24, y: height - 8, fill: '#555', 'font-size': 11 }, escaped(note)),
  )
  await writeFile(path, `${chart}\n`)
}

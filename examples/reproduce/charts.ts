// Charts of the report, as SVG.

import * as Plot from '@observablehq/plot'
import { parseHTML } from 'linkedom'

export interface Line {
  label: string
  /** In the order of x. */
  points: { x: number; y: number }[]
}

export interface Axes {
  title: string
  x: string
  y: string
  logarithmic?: boolean
}

const colors = ['#4269d0', '#efb118', '#ff725c', '#6cc5b0', '#3ca951', '#9c6b4e', '#a463f2']
const colorOf = (i: number) => colors[i % colors.length]!

/** Lines with their points, each with a name in the legend. */
export function lineChart(lines: readonly Line[], axes: Axes): string {
  const { document } = parseHTML('<!doctype html><html><body></body></html>')
  const rows = lines.flatMap(({ label, points }) => points.map((p) => ({ ...p, label })))
  const figure = Plot.plot({
    document: document as never,
    width: 640,
    height: 400,
    marginLeft: 48,
    marginRight: 130,
    marginTop: 40,
    marginBottom: 44,
    style: { fontFamily: 'system-ui, sans-serif', fontSize: '12px', background: 'white' },
    x: {
      label: axes.x,
      labelAnchor: 'center',
      labelArrow: 'none',
      labelOffset: 38,
      type: axes.logarithmic ? 'log' : 'linear',
      tickFormat: axes.logarithmic ? '~s' : undefined,
    },
    y: { label: axes.y, labelArrow: 'none', grid: true },
    color: { domain: lines.map(({ label }) => label), range: lines.map((_, i) => colorOf(i)) },
    marks: [
      Plot.line(rows, { x: 'x', y: 'y', stroke: 'label', strokeWidth: 2 }),
      Plot.dot(rows, { x: 'x', y: 'y', fill: 'label', r: 2.5 }),
      ...lines.map(({ label }, i) =>
        Plot.text([label], {
          frameAnchor: 'top-right',
          textAnchor: 'start',
          dx: 10,
          dy: i * 18,
          fill: colorOf(i),
        }),
      ),
      Plot.text([axes.title], {
        frameAnchor: 'top-left',
        dy: -32,
        fontSize: 15,
        fontWeight: 600,
      }),
    ],
  })
  const svg = figure.outerHTML
  return `${svg.replace('<svg', '<svg xmlns="http://www.w3.org/2000/svg"')}\n`
}

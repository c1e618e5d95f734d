// One chart: for the main operations, how long each contender takes, in times of ours.

import { mkdirSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'
import { ratioToOurs } from './report.js'
import { type Results, timingIn } from './results.js'

const colors: Record<string, string> = {
  'memory-layers': '#0b6e4f',
  'onnxruntime-node': '#c8553d',
  PyTorch: '#5b5f97',
}

// The shapes shown, best first where several match, and their labels.
const rows: readonly [RegExp, string][] = [
  [/^bag\/1048576x256\/float32\/256x128\/uniform/, 'bag, 256 wide'],
  [/^bag\/262144x1024\/float32\/256x128\/uniform/, 'bag, 1,024 wide'],
  [/^bag\/1048576x256\/float16\/256x128\/uniform/, 'bag, float16'],
  [/^bag\/1048576x256\/int8\/256x128\/uniform/, 'bag, int8'],
  [/^dweights\/1048576x256\/float32\/256x128\/uniform/, "weights' gradient"],
  [/^update\/rowwiseAdagrad\/1048576x256.*256x128\/uniform/, "table's gradient + row-wise Adagrad"],
  [/^update\/adamw\/1048576x256.*256x128\/uniform/, "table's gradient + AdamW"],
  [/^lookup\/256\/half 128\/n 1024$/, 'lookup among 1,024²'],
  [/^lookup\/2048\/half 128\/n 1024$/, 'lookup, 2,048 tokens'],
  [/^gemm\/2048x1024x1024$/, 'product 2,048 x 1,024 x 1,024'],
]

interface Point {
  row: string
  name: string
  times: number
}

function points({ cases }: Results): Point[] {
  return rows.flatMap(([pattern, row]) => {
    const result = Object.values(cases).find(({ name }) => pattern.test(name))
    if (!result) return []
    const threads = Math.max(...result.timings.map((t) => t.threads))
    return Object.keys(colors).flatMap((name) => {
      const times = ratioToOurs(result, timingIn(result, name, threads))
      return times === undefined ? [] : [{ row, name, times }]
    })
  })
}

const escaped = (text: string) => text.replace(/&/g, '&amp;').replace(/</g, '&lt;')

/**
 * Writes the chart and returns its path; undefined where nothing that it shows was measured, or the
 * drawing packages are not installed.
 */
export async function writeChart(path: string, results: Results): Promise<string | undefined> {
  const list = points(results)
  if (list.length === 0) return undefined
  const [Plot, linkedom] = await Promise.all([
    import('@observablehq/plot'),
    import('linkedom'),
  ]).catch(() => [])
  if (!Plot || !linkedom) return undefined
  const { document } = linkedom.parseHTML('<!doctype html><html><body></body></html>')
  const shown = rows.map(([, row]) => row).filter((row) => list.some((p) => p.row === row))
  const times = list.map((p) => p.times)
  const width = 860
  const height = 70 + shown.length * 34
  const plot = Plot.plot({
    document: document as never,
    width,
    height,
    marginLeft: 250,
    marginRight: 40,
    marginBottom: 46,
    style: { fontFamily: 'system-ui, sans-serif', fontSize: '13px', background: 'white' },
    x: {
      type: 'log',
      domain: [Math.min(...times) * 0.85, Math.max(...times) * 1.25],
      label: 'time, in times of memory-layers (log scale; further right is slower)',
      labelAnchor: 'center',
      tickFormat: (d: number) => `${d}x`,
      grid: true,
    },
    y: { domain: shown, label: null, tickSize: 0 },
    color: { domain: Object.keys(colors), range: Object.values(colors) },
    marks: [
      Plot.ruleX([1], { stroke: colors['memory-layers']!, strokeWidth: 1.5 }),
      Plot.dot(list, { x: 'times', y: 'row', fill: 'name', r: 6, stroke: 'white', strokeWidth: 1 }),
    ],
  }).outerHTML
  mkdirSync(dirname(path), { recursive: true })
  writeFileSync(path, withHead(plot, width, height, list, results))
  return path
}

/** The plot below a title and a legend. */
function withHead(
  plot: string,
  width: number,
  height: number,
  list: readonly Point[],
  { machine: { processor, cores, instructions } }: Results,
): string {
  const top = 78
  let x = 24
  const legend = Object.entries(colors)
    .filter(([name]) => list.some((p) => p.name === name))
    .map(([name, color]) => {
      const item =
        `<g transform="translate(${x},56)"><circle cx="6" cy="-4" r="6" fill="${color}"/>` +
        `<text x="18">${escaped(name)}</text></g>`
      x += 40 + name.length * 8
      return item
    })
  const title = `Time of each operation on ${processor}, ${cores} cores, ${instructions}`
  const size = `width="${width}" height="${top + height}" viewBox="0 0 ${width} ${top + height}"`
  const svg = '<svg xmlns="http://www.w3.org/2000/svg"'
  return `${svg} ${size} font-family="system-ui, sans-serif" font-size="13">
<rect width="100%" height="100%" fill="white"/>
<text x="24" y="26" font-size="16" font-weight="600">${escaped(title)}</text>
${legend.join('')}${plot.replace('<svg', `${svg} x="0" y="${top}"`)}</svg>
`
}

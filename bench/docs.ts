// docs/benchmarks.md: the stored results, with the machine, the commits and, last, the commands
// they came from.

import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { writeChart } from './chart.js'
import { maxOthers, median } from './harness.js'
import { casesTable, rowsOfCase, targetsTable, unique } from './report.js'
import type { Measured, Results } from './results.js'

const folder = fileURLToPath(new URL('../docs/', import.meta.url))

// The beginning of a case's name, the section of these cases, and what is to be known about them.
const sections: readonly [string, string, string][] = [
  [
    'bag/',
    'Embedding bag, forward',
    `Table / dtype / tokens x bag / sampled indices. The ceiling reads the same rows, and the scales
of int8 rows, and adds them up; up to 1 KiB, by the better of an unrolled loop and the plain one,
which is the column beside it. Whole rows, L1d prefetch: the plain loop where it may prefetch into
L1d alone.`,
  ],
  ['dweights/', "Gradient of the bag's weights", 'PyTorch: the backward alone.'],
  [
    'update/',
    "Table's gradient with the optimizer",
    `Sort, sum and update of each touched row. The ceiling reads and writes the touched rows and
their states, and nothing else: no row of dy, no sort. PyTorch: sparse backward and step; its
Adagrad keeps a sum for each element.`,
  ],
  [
    'lookup/',
    'Product-key lookup',
    `Tokens / half-key width / half-keys; 4 heads, k = 32. The ceiling is the multiply-adds of all
half scores in float32 at the rate of the registers, which avx512vnni need not do.`,
  ],
  [
    'gemm/',
    'Dense products',
    `Rows x inner x columns of y = x W^T; dx and dw, its gradients. The ceiling is the
multiply-adds at the rate of the registers. onnxruntime-node has its weights packed ahead.`,
  ],
  [
    'token/',
    'One token through a layer',
    `Each call reads its output with \`dataSync()\`. The ceiling reads the bytes that one token
needs.`,
  ],
  [
    'model/',
    'Whole models',
    `Step: loss, gradients, clipping and AdamW; PyTorch's model is bench/peers/pytorch_gpt.py.
Decoder: the products alone are those of its step, of float32, forward and backward. Generation: a
token at a time, with the cache, behind a prompt of 8. Recording: a chain of 64 operations on one
number.`,
  ],
]

const list = (values: readonly string[]) => unique(values).join(', ')

function headOf({ machine: m, contenders }: Results, cases: readonly Measured[]): string {
  const system = `${m.memory}, ${m.system}, Node ${m.node}, transparent huge pages: ${m.hugePages}`
  const commits = list(cases.map(({ commit }) => commit))
  const dates = list(cases.map(({ date }) => date))
  return `---
title: Benchmarks
---

# Benchmarks

Written by \`npm run bench -- --write-docs\`; do not edit. Run it on your machine: \`npm run bench\`
(\`--quick\` takes a few minutes, \`--help\` lists the rest). Peers are optional:
\`npm run bench:peers\` installs onnxruntime-node into \`bench/peers\`, and PyTorch takes part where
\`python3 -c "import torch"\` works.

- machine: ${m.processor} (${m.kind}), ${m.cores} cores, ${m.instructions}, ${system}
- contenders: ${Object.entries(contenders)
    .map((pair) => pair.join(' '))
    .join('; ')}
- commit ${commits}, ${dates}
- other processes used ${othersText(cases)};
  rounds that they disturbed were repeated where that helped
${disturbed(cases)}
Every result is compared with a float64 reference before it is timed. Contenders of a case are timed
in rotation, round by round. A time is the median, the spread half the interquartile range. Two
figures are one thread / all threads; (x) is how many times as long as ours. Fractions of the
ceiling, multiples and speedups are medians of the ratios within a round, so a machine that slows
down and recovers does not bias them. The ceilings are loops that only move the same rows or only
multiply, with the best prefetches, into L1d or L2. Where a table is only read, ours and the ceiling
read the same one, since allocations differ in speed. Our tables and those of the ceilings are in
huge pages; peers get ordinary arrays, as their users do. Compare figures within a row only:
absolute speed differs from run to run on a shared machine.
`
}

function othersText(cases: readonly Measured[]): string {
  const known = cases.map((c) => c.others).filter((x) => x !== undefined)
  if (known.length === 0) return 'an unknown part of the machine'
  const max = Math.max(...known)
  return `${median(known).toFixed(2)} cores in the median case, ${max.toFixed(2)} at most`
}

const disturbed = (cases: readonly Measured[]) =>
  cases.filter(({ others = 0 }) => others > maxOthers).length > cases.length / 4
    ? '- **the machine did other work meanwhile: the figures are rough**\n'
    : ''

export async function writeDocs(results: Results): Promise<void> {
  const chart = await writeChart(`${folder}benchmarks.svg`, results)
  const cases = Object.values(results.cases)
  const lines = [
    headOf(results, cases),
    ...(chart ? ['![Time of each operation by contender](benchmarks.svg)', ''] : []),
    '## Targets',
    '',
    'Median over the shapes and thread counts (min … max, number of figures). `a / b` is the time',
    "of a over that of b; a speedup, one thread's time over that of all threads.",
    '',
    ...targetsTable(results),
    '',
  ]
  for (const [prefix, title, text] of sections) {
    const own = cases.filter(({ name }) => name.startsWith(prefix))
    if (own.length > 0) lines.push(`## ${title}`, '', text, '', ...casesTable(own), '')
  }
  const layers = cases.filter(({ name }) => name.startsWith('layer/'))
  if (layers.length > 0)
    lines.push(
      '## Whole layer as the table grows',
      '',
      'Tokens x width / lookup / optimizer; all threads.',
      '',
    )
  for (const layer of layers) {
    const list = rowsOfCase(layer).map(([title, text]) => `- ${title}: ${text}`)
    lines.push(`**${layer.name.replace('layer/', '')}**`, '', ...list, '')
  }
  lines.push('## Commands', '', '```sh', ...unique(cases.map(({ command }) => command)), '```')
  writeFileSync(`${folder}benchmarks.md`, `${lines.join('\n').trimEnd()}\n`)
}

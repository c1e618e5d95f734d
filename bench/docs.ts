// docs/benchmarks.md: the kept results, with the machine, the commits and, last, the commands they
// came from.

import { writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { writeChart } from './chart.js'
import { mostOthers, quantile } from './harness.js'
import { duration, share, slower, spreadOf, timingOf } from './report.js'
import type { Measured, Results } from './results.js'
import { gotText, reachedText, type Target, targets } from './targets.js'

const folder = fileURLToPath(new URL('../docs/', import.meta.url))

const groups: readonly [RegExp, string, string][] = [
  [
    /^bag\//,
    'Embedding bag, forward',
    'Table / dtype / tokens x bag / draws. The ceiling reads the same rows, and the scales of int8 rows, and adds them up. Whole rows by the first cache: the same loop where it may prefetch there alone.',
  ],
  [/^dweights\//, "Gradient of the bag's weights", 'PyTorch: the backward alone.'],
  [
    /^update\//,
    "Table's gradient with the optimizer",
    'Sort, sum and rule on each touched row. The ceiling reads and writes the touched rows and their states, and nothing else: no row of dy, no sort. PyTorch: sparse backward and step; its Adagrad keeps a sum for each element.',
  ],
  [
    /^lookup\//,
    'Product-key lookup',
    'Tokens / half-key width / half-keys; 4 heads, k = 32. The ceiling is the multiply-adds of all half scores in float32 at the rate of the registers, which avx512vnni need not do.',
  ],
  [
    /^gemm\//,
    'Dense products',
    'Rows x inner x columns. onnxruntime-node has its weights packed ahead.',
  ],
  [
    /^token\//,
    'One token through a layer',
    'Each call reads its output with `dataSync()`. The ceiling reads the bytes that one token needs.',
  ],
]

/** Each with its operation's name, which follows from the target before. */
function named(list: readonly Target[]): Target[] {
  let operation = ''
  return list.map((t) => {
    operation = t.operation || operation
    return { ...t, operation }
  })
}

const unique = (values: readonly string[]) => [...new Set(values)]

const disturbed = (cases: readonly [string, Measured][]) =>
  cases.filter(([, m]) => (m.others ?? 0) > mostOthers).length > cases.length / 4

function othersText(values: readonly (number | undefined)[]): string {
  const known = values.filter((v) => v !== undefined).sort((a, b) => a - b)
  if (known.length === 0) return 'an unknown part of the machine'
  return `${quantile(known, 0.5).toFixed(2)} cores in the median case, ${known.at(-1)!.toFixed(2)} at most`
}

function cell(result: Measured, name: string, threads: readonly number[]): string {
  const times = threads.map((n) => timingOf(result, name, n))
  if (times.every((t) => !t)) return ''
  const shown = times.map((t) => (t ? duration(t.seconds) : '–')).join(' / ')
  const ratio = times
    .map((t) => t && name !== 'memory-layers' && name !== 'ceiling' && slower(result, t))
    .filter((r) => typeof r === 'number')
    .map((r) => `${r.toFixed(r < 10 ? 1 : 0)}x`)
  return ratio.length > 0 ? `${shown} (${ratio.join(' / ')})` : shown
}

function table(cases: readonly [string, Measured][]): string[] {
  const names = unique(cases.flatMap(([, r]) => r.timings.map((t) => t.name)))
  const threads = unique(cases.flatMap(([, r]) => r.timings.map((t) => String(t.threads))))
    .map(Number)
    .sort((a, b) => a - b)
  const order = [
    'memory-layers',
    'ceiling',
    'its own products alone',
    'whole rows by the first cache',
    'onnxruntime-node',
    'PyTorch',
    'plain TypeScript',
    'tfjs-wasm',
  ].filter((n) => names.includes(n))
  const head = ['', order[0]!, 'rate', 'of ceiling', 'spread', ...order.slice(1)]
  const lines = cases.map(([name, r]) => {
    const ours = threads.map((n) => timingOf(r, 'memory-layers', n)).filter((t) => t !== undefined)
    const rates =
      r.unit && r.work
        ? `${ours.map((t) => (r.work! / t.seconds / 1e9).toFixed(1)).join(' / ')} ${r.unit}`
        : ''
    const shares = ours.map((t) => share(r, t)?.toFixed(2) ?? '–').join(' / ')
    const cells = [
      name.replace(/^\w+\//, ''),
      cell(r, order[0]!, threads),
      rates,
      shares,
      ours.map(spreadOf).join(' / '),
      ...order.slice(1).map((n) => cell(r, n, threads)),
    ]
    return `| ${cells.join(' | ')} |`
  })
  return [`| ${head.join(' | ')} |`, `|${head.map(() => '---').join('|')}|`, ...lines]
}

function layers(cases: readonly [string, Measured][]): string[] {
  return cases.flatMap(([name, r]) => [
    `**${name.replace(/^layer\//, '')}**`,
    '',
    '| | time | spread |',
    '|---|---|---|',
    ...r.timings.map((t) => `| ${t.name} | ${duration(t.seconds)} | ${spreadOf(t)} |`),
    '',
    ...Object.entries(r.notes ?? {}).map(([what, value]) => `- ${what}: ${value.toFixed(2)}`),
    '',
  ])
}

export async function writeDocs(results: Results): Promise<void> {
  const chart = await writeChart(`${folder}benchmarks.svg`, results)
  const cases = Object.entries(results.cases)
  const { processor, cores, instructions, memory, system, node, hugePages } = results.machine
  const of = (pick: (m: Measured) => string) => unique(cases.map(([, m]) => pick(m))).join(', ')
  const lines = [
    '---',
    'title: Benchmarks',
    '---',
    '',
    '# Benchmarks',
    '',
    'Written by `npm run bench -- --write-docs`; do not edit. Run it on your machine: `npm run bench` (`--quick` takes a few minutes, `--help` lists the rest). Peers are',
    'optional: `npm run bench:peers` installs onnxruntime-node and TensorFlow.js into `bench/peers`, and PyTorch takes part where `python3 -c "import torch"` works.',
    '',
    `- machine: ${processor}, ${cores} cores, ${instructions}, ${memory}, ${system}, Node ${node}, transparent huge pages: ${hugePages}`,
    `- contenders: ${Object.entries(results.contenders)
      .map(([name, version]) => `${name} ${version}`)
      .join('; ')}`,
    `- commit ${of((m) => m.commit)}, ${of((m) => m.date)}`,
    `- other processes used ${othersText(cases.map(([, m]) => m.others))}; rounds that they disturbed were run again where that helped`,
    ...(disturbed(cases)
      ? [
          '- **the machine did other work meanwhile: the figures are rough, those with all threads most of all**',
        ]
      : []),
    '',
    'Every result is compared with plain float64 loops before it is timed. Contenders of a case are timed in one process in turn, round by round; a time is the median, the spread half the distance of the quarter',
    'points. Two figures are one thread / all threads; (x) is how many times as long as ours. Shares of the ceiling, multiples and scaling are medians of the ratios within a round, so that a machine that slows down and',
    'recovers does not move them. The ceilings are loops that only move the same rows, or only multiply, with the best prefetches, into the first or the second cache; where the table is only read, they read ours, since one',
    'allocation is not as fast as the next. Tables of ours and of the ceilings lie in huge pages; peers get ordinary',
    'arrays, as their users do. Only ratios within a row mean anything: absolute speed differs from run to run on a shared machine.',
    '',
    ...(chart ? ['![Time of each operation by contender](benchmarks.svg)', ''] : []),
    '## Targets',
    '',
    'Median over the shapes and thread counts (least … greatest, number of figures).',
    '',
    '| operation | wanted | measured | reached |',
    '|---|---|---|---|',
    ...named(targets(results)).map(
      (t) => `| ${t.operation} | ${t.wanted} | ${gotText(t)} | ${reachedText(t)} |`,
    ),
    '',
    ...groups.flatMap(([pattern, title, text]) => {
      const own = cases.filter(([name]) => pattern.test(name))
      return own.length === 0 ? [] : [`## ${title}`, '', text, '', ...table(own), '']
    }),
  ]
  const growing = cases.filter(([name]) => name.startsWith('layer/'))
  if (growing.length > 0)
    lines.push(
      '## Whole layer as the table grows',
      '',
      'Tokens x width / lookup / optimizer; all threads.',
      '',
      ...layers(growing),
    )
  lines.push('## Commands', '', '```sh', ...unique(cases.map(([, m]) => m.command)), '```')
  writeFileSync(`${folder}benchmarks.md`, `${lines.join('\n').trimEnd()}\n`)
}

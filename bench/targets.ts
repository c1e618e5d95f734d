// What the project wants to reach, and what the results say.

import { quantile, ratioOf, type Timing } from './harness.js'
import { share, timingOf } from './report.js'
import type { Measured, Results } from './results.js'

export interface Target {
  operation: string
  wanted: string
  /** The figures found: the median over shapes and threads, the least and the greatest. */
  got?: { median: number; least: number; greatest: number; count: number }
  reached?: boolean
}

interface Spec {
  operation: string
  wanted: string
  cases: RegExp
  figures(result: Measured): (number | undefined)[]
  /** Not there for a figure that is only to compare with. */
  reached?(value: number): boolean
}

const ours = (r: Measured): Timing[] => r.timings.filter((t) => t.name === 'memory-layers')
const shares = (r: Measured) => ours(r).map((t) => share(r, t))
/** How many times as long another takes, with the same threads. */
const times = (name: string) => (r: Measured) =>
  ours(r).map((t) => {
    const other = timingOf(r, name, t.threads)
    return other && ratioOf(other, t)
  })
/** How many times as fast all threads are as one. */
const scaling = (name: string) => (r: Measured) => {
  const all = r.timings.filter((t) => t.name === name)
  return [all.length > 1 ? ratioOf(all[0]!, all.at(-1)!) : undefined]
}
const note = (pattern: RegExp) => (r: Measured) =>
  Object.entries(r.notes ?? {})
    .filter(([name]) => pattern.test(name))
    .map(([, value]) => value)
const atLeast = (least: number) => (value: number) => value >= least
const atMost = (most: number) => (value: number) => value <= most

const widest = /^bag\/262144x1024\/float32/
const first = (dtype: string) => new RegExp(`^bag/1048576x256/${dtype}/`)
const largeLookup = /^lookup\/\d+\/half (128|256)\/n (1024|2048)$/

/** Bandwidth allows what the ceiling, which only moves the bytes, gains by all threads. */
const allThreads = 1.7
const whereAllowed = (figures: Spec['figures']) => (r: Measured) =>
  (scaling('ceiling')(r)[0] ?? 0) >= allThreads ? figures(r) : []

const scalings = (cases: RegExp): Spec[] => [
  {
    operation: '',
    wanted: `all threads >= ${allThreads}x one where bandwidth allows: where the ceiling's are`,
    cases,
    figures: whereAllowed(scaling('memory-layers')),
    reached: atLeast(allThreads),
  },
  { operation: '', wanted: 'in every case, to compare', cases, figures: scaling('memory-layers') },
  {
    operation: '',
    wanted: 'the ceiling in every case, to compare',
    cases,
    figures: scaling('ceiling'),
  },
]

const specs: Spec[] = [
  {
    operation: 'bag forward float32, D = 256, uniform',
    wanted: '>= 0.95 of the gather ceiling',
    cases: /^bag\/1048576x256\/float32\/.*uniform/,
    figures: shares,
    reached: atLeast(0.95),
  },
  {
    operation: '',
    wanted: '>= 1.5x onnxruntime-node',
    cases: /^bag\/1048576x256\/float32\/.*uniform/,
    figures: times('onnxruntime-node'),
    reached: atLeast(1.5),
  },
  {
    operation: '',
    wanted: '>= 2.5x PyTorch',
    cases: /^bag\/1048576x256\/float32\/.*uniform/,
    figures: times('PyTorch'),
    reached: atLeast(2.5),
  },
  {
    operation: 'bag forward float32, D = 1,024',
    wanted: '>= 1.2x the loop over whole rows by the first cache',
    cases: widest,
    figures: times('whole rows by the first cache'),
    reached: atLeast(1.2),
  },
  { operation: '', wanted: 'the same by either cache, to compare', cases: widest, figures: shares },
  {
    operation: 'bag forward float16',
    wanted: '>= 0.85 of the gather ceiling',
    cases: first('float16'),
    figures: shares,
    reached: atLeast(0.85),
  },
  {
    operation: 'bag forward bfloat16',
    wanted: '>= 0.85 of the gather ceiling',
    cases: first('bfloat16'),
    figures: shares,
    reached: atLeast(0.85),
  },
  {
    operation: 'bag forward int8',
    wanted: '>= 0.75 of the gather ceiling',
    cases: first('int8'),
    figures: shares,
    reached: atLeast(0.75),
  },
  {
    operation: 'gradient of the weights',
    wanted: '>= 0.85 of the gather ceiling',
    cases: /^dweights\//,
    figures: shares,
    reached: atLeast(0.85),
  },
  {
    operation: 'table gradient + row-wise Adagrad',
    wanted: '>= 0.75 of the read-modify-write ceiling',
    cases: /^update\/rowwiseAdagrad/,
    figures: shares,
    reached: atLeast(0.75),
  },
  {
    operation: '',
    wanted: '>= 6x PyTorch',
    cases: /^update\/rowwiseAdagrad/,
    figures: times('PyTorch'),
    reached: atLeast(6),
  },
  ...scalings(/^update\/rowwiseAdagrad/),
  {
    operation: 'table gradient + AdamW',
    wanted: '>= 0.75 of the read-modify-write ceiling',
    cases: /^update\/adamw/,
    figures: shares,
    reached: atLeast(0.75),
  },
  {
    operation: '',
    wanted: '>= 6x PyTorch',
    cases: /^update\/adamw/,
    figures: times('PyTorch'),
    reached: atLeast(6),
  },
  ...scalings(/^update\/adamw/),
  {
    operation: 'product-key lookup, n >= 1,024, half >= 128',
    wanted: '<= 1.25x its own products alone',
    cases: largeLookup,
    figures: (r) => times('its own products alone')(r).map((x) => x && 1 / x),
    reached: atMost(1.25),
  },
  {
    operation: 'product-key lookup, all shapes',
    wanted: '>= 5x onnxruntime-node',
    cases: /^lookup\//,
    figures: times('onnxruntime-node'),
    reached: atLeast(5),
  },
  {
    operation: '',
    wanted: '>= 5x PyTorch',
    cases: /^lookup\//,
    figures: times('PyTorch'),
    reached: atLeast(5),
  },
  {
    operation: "products at the layers' shapes",
    wanted: ">= 0.9 of onnxruntime-node's rate",
    cases: /^gemm\//,
    figures: times('onnxruntime-node'),
    reached: atLeast(0.9),
  },
  {
    operation: 'whole layer',
    wanted: "operations' sum >= 0.9 of the whole",
    cases: /^layer\//,
    figures: note(/^operations of a step/),
    reached: atLeast(0.9),
  },
  {
    operation: '',
    wanted: '16 times the rows, 128 wide: < 1.25x, without the half-keys',
    cases: /^layer\/.*value 128\/rowwiseAdagrad/,
    figures: note(/without what grows/),
    reached: atMost(1.25),
  },
  {
    operation: '',
    wanted: 'the same, 64 wide',
    cases: /^layer\/.*value 64\/rowwiseAdagrad/,
    figures: note(/without what grows/),
    reached: atMost(1.25),
  },
  {
    operation: '',
    wanted: 'twice the rows: < 1.15x',
    cases: /^layer\/.*adamw/,
    figures: note(/over .*, whole step/),
    reached: atMost(1.15),
  },
  {
    operation: 'one token',
    wanted: "< 60 µs beyond the bytes' floor",
    cases: /^token\//,
    figures: note(/beyond/),
    reached: atMost(60),
  },
  {
    operation: '',
    wanted: 'no memory reserved after warm-up',
    cases: /^token\//,
    figures: note(/reserved/),
    reached: atMost(0),
  },
]

export function targets({ cases }: Results): Target[] {
  return specs.map(({ operation, wanted, cases: pattern, figures, reached }) => {
    const values = Object.entries(cases)
      .filter(([name]) => pattern.test(name))
      .flatMap(([, result]) => figures(result))
      .filter((v): v is number => v !== undefined)
      .sort((a, b) => a - b)
    if (values.length === 0) return { operation, wanted }
    const median = quantile(values, 0.5)
    return {
      operation,
      wanted,
      got: { median, least: values[0]!, greatest: values.at(-1)!, count: values.length },
      reached: reached?.(median),
    }
  })
}

const number = (x: number) =>
  Math.abs(x) >= 100 || Number.isInteger(x) ? x.toFixed(0) : x.toFixed(2)

export function gotText({ got }: Target): string {
  if (!got) return 'not measured'
  return got.count === 1
    ? number(got.median)
    : `${number(got.median)} (${number(got.least)} … ${number(got.greatest)}, ${got.count})`
}

/** 'yes' or 'no'; nothing for a figure that is only to compare with. */
export const reachedText = ({ reached }: Target): string =>
  reached === undefined ? '' : reached ? 'yes' : 'no'

export function targetsText(results: Results): string {
  const rows = targets(results).filter((t) => t.got)
  if (rows.length === 0) return ''
  const width = (pick: (t: Target) => string) => Math.max(...rows.map((t) => pick(t).length))
  const [a, b] = [width((t) => t.operation), width((t) => t.wanted)]
  const lines = rows.map(
    (t) =>
      `  ${t.operation.padEnd(a)}  ${t.wanted.padEnd(b)}  ${reachedText(t).padEnd(3)}  ${gotText(t)}`,
  )
  return ['Targets: median over shapes and threads (least … greatest, how many)', ...lines].join(
    '\n',
  )
}

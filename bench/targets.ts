// The project's targets, as data, and what results say of them.

import { quantile, ratioOf } from './harness.js'
import { type Measured, type Results, timingIn } from './results.js'

/** The cases of an operation, by the beginnings of their names. */
const operations = {
  'bag forward float32, D = 256, uniform': /^bag\/1048576x256\/float32\/.*uniform/,
  'bag forward float32, D = 1,024': /^bag\/262144x1024\/float32/,
  'bag forward float16': /^bag\/1048576x256\/float16\//,
  'bag forward bfloat16': /^bag\/1048576x256\/bfloat16\//,
  'bag forward int8': /^bag\/1048576x256\/int8\//,
  'gradient of the weights': /^dweights\//,
  'table gradient + row-wise Adagrad': /^update\/rowwiseAdagrad/,
  'table gradient + AdamW': /^update\/adamw/,
  'product-key lookup, n >= 1,024, half >= 128': /^lookup\/\d+\/half (128|256)\/n (1024|2048)$/,
  'product-key lookup, all shapes': /^lookup\//,
  "products at the layers' shapes": /^gemm\/\d/,
  'products of 2,048 rows': /^gemm\/(dx\/)?2048/,
  'gradient of a linear weight': /^gemm\/dw\/2048/,
  'whole layer': /^layer\//,
  'whole layer, 16 times the rows, value 128': /^layer\/.*value 128\/rowwiseAdagrad/,
  'whole layer, 16 times the rows, value 64': /^layer\/.*value 64\/rowwiseAdagrad/,
  'whole layer, twice the rows': /^layer\/.*adamw/,
  'one token': /^token\//,
  'step of a GPT, dense': /^model\/step dense/,
  'step of a GPT, Memory+': /^model\/step memory/,
  'step of a decoder': /^model\/decoder/,
  generation: /^model\/generation/,
  recording: /^model\/recording/,
  'a step by apply': /^model\/apply/,
} as const

/**
 * `a / b`: the time of one contender over that of another, with the same threads. `speedup of a`:
 * its time with one thread over that with all. Anything else: the notes whose names hold it.
 */
type Quantity = string

export interface Target {
  operation: string
  quantity: Quantity
  bound: string
  /** The median over cases and threads, its range, and how many figures there were. */
  figures?: { median: number; min: number; max: number; count: number }
  /** Not there where there is no bound: a quantity to compare with. */
  reached?: boolean
}

const bandwidthAllows = 1.7 // speedup of the ceiling, which only moves the bytes
const whereAllowed = ' where bandwidth allows'

type Bound = readonly ['>=' | '<=', number, 'x' | ' µs' | ' bytes']
const rows: readonly [keyof typeof operations, Quantity, Bound?][] = [
  ['bag forward float32, D = 256, uniform', 'ceiling / ours', ['>=', 0.95, 'x']],
  ['bag forward float32, D = 256, uniform', 'onnxruntime-node / ours', ['>=', 1.5, 'x']],
  ['bag forward float32, D = 256, uniform', 'PyTorch / ours', ['>=', 2.5, 'x']],
  ['bag forward float32, D = 1,024', 'whole rows, L1d prefetch / ours', ['>=', 1.2, 'x']],
  ['bag forward float32, D = 1,024', 'ceiling / ours'],
  ['bag forward float16', 'ceiling / ours', ['>=', 0.85, 'x']],
  ['bag forward bfloat16', 'ceiling / ours', ['>=', 0.85, 'x']],
  ['bag forward int8', 'ceiling / ours', ['>=', 0.75, 'x']],
  ['gradient of the weights', 'ceiling / ours', ['>=', 0.85, 'x']],
  ['table gradient + row-wise Adagrad', 'ceiling / ours', ['>=', 0.75, 'x']],
  ['table gradient + row-wise Adagrad', 'PyTorch / ours', ['>=', 6, 'x']],
  ['table gradient + row-wise Adagrad', `speedup of ours${whereAllowed}`, ['>=', 1.7, 'x']],
  ['table gradient + row-wise Adagrad', 'speedup of ours'],
  ['table gradient + row-wise Adagrad', 'speedup of ceiling'],
  ['table gradient + AdamW', 'ceiling / ours', ['>=', 0.75, 'x']],
  ['table gradient + AdamW', 'PyTorch / ours', ['>=', 6, 'x']],
  ['table gradient + AdamW', `speedup of ours${whereAllowed}`, ['>=', 1.7, 'x']],
  ['table gradient + AdamW', 'speedup of ours'],
  ['table gradient + AdamW', 'speedup of ceiling'],
  ['product-key lookup, n >= 1,024, half >= 128', 'ours / half scores alone', ['<=', 1.25, 'x']],
  ['product-key lookup, all shapes', 'onnxruntime-node / ours', ['>=', 5, 'x']],
  ['product-key lookup, all shapes', 'PyTorch / ours', ['>=', 5, 'x']],
  ["products at the layers' shapes", 'onnxruntime-node / ours', ['>=', 0.9, 'x']],
  ["products at the layers' shapes", 'PyTorch / ours', ['>=', 1.05, 'x']],
  ['products of 2,048 rows', 'ceiling / ours', ['>=', 0.8, 'x']],
  ['gradient of a linear weight', 'PyTorch / ours', ['>=', 1, 'x']],
  ['whole layer', 'sub-operations over total', ['>=', 0.9, 'x']],
  ['whole layer, 16 times the rows, value 128', 'without half-key work', ['<=', 1.25, 'x']],
  ['whole layer, 16 times the rows, value 64', 'without half-key work', ['<=', 1.25, 'x']],
  ['whole layer, twice the rows', 'step total', ['<=', 1.15, 'x']],
  ['one token', "µs beyond the bytes' floor", ['<=', 60, ' µs']],
  ['one token', 'bytes reserved after warm-up', ['<=', 0, ' bytes']],
  ['step of a GPT, dense', 'times as long in PyTorch, one thread', ['>=', 1.8, 'x']],
  ['step of a GPT, dense', 'times as long in PyTorch, all threads', ['>=', 2.6, 'x']],
  ['step of a GPT, dense', 'attention over products', ['<=', 0.25, 'x']],
  ['step of a GPT, Memory+', 'times as long in PyTorch, one thread', ['>=', 2.6, 'x']],
  ['step of a GPT, Memory+', 'times as long in PyTorch, all threads', ['>=', 3.8, 'x']],
  ['step of a decoder', 'ours / products alone, onnxruntime-node', ['<=', 1.5, 'x']],
  ['generation', 'µs a generated token', ['<=', 400, ' µs']],
  ['generation', 'last tokens over first', ['<=', 1.2, 'x']],
  ['recording', 'µs a recorded node', ['<=', 3, ' µs']],
  ['a step by apply', 'apply over explicit contexts', ['<=', 1.03, 'x']],
]

function ratios(result: Measured, a: string, b: string): number[] {
  return result.timings
    .filter((t) => t.name === a)
    .flatMap((t) => {
      const other = timingIn(result, b, t.threads)
      return other ? [ratioOf(t, other)] : []
    })
}

function speedup({ timings }: Measured, name: string): number[] {
  const all = timings.filter((t) => t.name === name)
  return all.length > 1 ? [ratioOf(all[0]!, all.at(-1)!)] : []
}

function figuresOf(quantity: Quantity, result: Measured): number[] {
  const name = (text: string) => (text === 'ours' ? 'memory-layers' : text)
  const [a, b] = quantity.split(' / ')
  if (b !== undefined) return ratios(result, name(a!), name(b))
  const of = /^speedup of (\S+)/.exec(quantity)?.[1]
  if (of === undefined)
    return Object.entries(result.notes ?? {}).flatMap(([note, x]) =>
      note.includes(quantity) ? [x] : [],
    )
  const allowed = (speedup(result, 'ceiling')[0] ?? 0) >= bandwidthAllows
  return allowed || !quantity.endsWith(whereAllowed) ? speedup(result, name(of)) : []
}

export function targets({ cases }: Results): Target[] {
  return rows.map(([operation, quantity, bound]) => {
    const target = { operation, quantity, bound: bound ? `${bound[0]} ${bound[1]}${bound[2]}` : '' }
    const values = Object.entries(cases)
      .filter(([name]) => operations[operation].test(name))
      .flatMap(([, result]) => figuresOf(quantity, result))
      .sort((a, b) => a - b)
    if (values.length === 0) return target
    const median = quantile(values, 0.5)
    const reached = bound && (bound[0] === '>=' ? median >= bound[1] : median <= bound[1])
    const figures = { median, min: values[0]!, max: values.at(-1)!, count: values.length }
    return { ...target, figures, reached }
  })
}

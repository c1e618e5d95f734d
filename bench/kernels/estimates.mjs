// `node bench/kernels/estimates.mjs`: how long a memory layer would take on an H100, by a model of
// issue slots and bytes, into docs/kernels.md. Instructions of loops come from the compiled PTX
// (ptx.mjs), sectors over floors from the emulator's counts (budgets.json). Not a measurement.

import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { missesOfDy } from './l2.mjs'
import { readPtx } from './ptx.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { sectors } = JSON.parse(readFileSync(new URL('budgets.json', import.meta.url), 'utf8'))

const gpu = { clock: 1.755e9, multiprocessors: 132, slots: 4, memory: 3.0e12, l2: 5.5e12 }
const l2Bytes = 50e6
const tensor = 6.0e14 // floating-point operations a second of mma.sync in bfloat16
const launch = 2e-6 // seconds, of a kernel behind another
const [T, C, V, H, k, n, d] = [16384, 1024, 1024, 4, 32, 1024, 256]
const [N, L] = [n * n, H * k]
const touched = N * (1 - Math.exp((-T * L) / N)) // rows, of indices that are uniform
// Distinct half-keys of both halves of a (token, head) that have a gradient (design: 20.2 of 64).
const gathered = 20.2
// The share of reads of dy that miss L2: in the order of the visits and in ascending order, each
// where all of L2 holds dy, and where half of it does, as if each half of the GPU kept its own.
const [[missed, missedOfHalf], ascending] = [15, 1].map((blocks) =>
  [l2Bytes, l2Bytes / 2].map((bytes) =>
    missesOfDy({ tokens: T, reads: L, slots: N, blocks, kept: bytes / (V * 4) }),
  ),
)

/**
 * Instructions for each of a kind, in the PTX of sm_80 and later: of the block that has the most
 * products of tensor cores, or of the innermost loop that has the most of another kind.
 */
function loopsOf(file) {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-estimates-'))
  const ptx = join(folder, 'kernels.ptx')
  const flags = ['-std=c++20', '-O3', '--expt-relaxed-constexpr', '-Inative', '-arch=sm_80', '-ptx']
  execFileSync('nvcc', [...flags, `native/${file}`, '-o', ptx], { cwd: root, stdio: 'pipe' })
  const kernels = [...readPtx(readFileSync(ptx, 'utf8'))]
  rmSync(folder, { recursive: true })
  return (kernel, kind) => {
    const all = kernels.filter(([name]) => kernel.test(name)).map(([, found]) => found)
    if (kind === 'products') return 1 / Math.max(...all.map((found) => found.productShare))
    const loops = all.flatMap((found) => found.loops)
    const [best] = loops.sort((a, b) => b[kind] - a[kind] || a.instructions - b.instructions)
    if (!best?.[kind]) throw new Error(`${file}: no loop of ${kernel} has ${kind}`)
    return best.instructions / best[kind]
  }
}

const mma = loopsOf('cuda/matrix_product_mma.cu')
const fma = loopsOf('cuda/matrix_product_fma.cu')
const lookup = loopsOf('ops/product_key_lookup.cu')
const bag = loopsOf('ops/embedding_bag.cu')
const update = loopsOf('optim/sparse_update.cu')
const perProduct = mma(/MmaProductINS_8BFloat16ELi128ELi128/, 'products')
const perFma = fma(/FmaProductIffLb1ELb1ELi128/, 'fmas')
const perWinner = lookup(/combine_short/, 'votes')
const perUpdateLoad = update(/RowwiseAdagradRuleENS0_8RowSliceILi4ELi8ELi1/, 'loads')

/** One kernel: warp instructions, bytes of device memory and of L2, operations on tensor cores. */
const kernel = (name, work) => ({ name, slots: 0, bytes: 0, l2: 0, flops: 0, launches: 1, ...work })

function estimates(compute) {
  const rounded = compute === 'bfloat16'
  const width = rounded ? 2 : 4 // of an operand, of a table's element
  // a product, with the rounding of its operands, and what it reads and writes
  const product = (name, M, K, columns, elements = M * K) =>
    kernel(name, {
      slots: ((M * K * columns) / (rounded ? 2048 : 32)) * (rounded ? perProduct : perFma),
      flops: rounded ? 2 * M * K * columns : 0,
      bytes: (M * K + K * columns) * width + M * columns * 4 + (rounded ? elements * 6 : 0),
      launches: rounded ? 2 : 1,
    })
  const halves = T * 2 * H
  const multiply = (halves * n * d) / (rounded ? 2048 : 32)
  const type = rounded ? 'NS_8BFloat16E' : 'f'
  const perHalf = lookup(new RegExp(`half_lists_kernelI${type}Li64`), rounded ? 'products' : 'fmas')
  // A row of scores: eight tiles are looked over; the first is sorted as four lists of 32 and
  // merged; about 66 later entries sort and merge a full buffer twice. A network takes 10
  // instructions a step: 15 steps to sort, 5 to merge.
  const selection = halves * (8 * 60 + 4 * 150 + 3 * 55 + 2 * 205)
  const bagRatio = sectors[`embedding_bag ${compute}, tokens 512, dim ${rounded ? V : 256}`]
  const bagBytes = (T * L * (V * width + 8) + T * V * 4) * bagRatio
  const perLoad = bag(
    rounded
      ? /embedding_bag_kernelINS_8BFloat16ENS0_8RowSliceILi8ELi4/
      : /embedding_bag_kernelIfNS0_8RowSliceILi4ELi4/,
    'loads',
  )
  const loads = (T * L * V * width) / 512 // 16 bytes of each lane
  const pairs = T * H * (k + 1) * 8
  const rows = T * H * gathered * d * width
  const entries = T * L
  const parameters = C * 2 * H * d + 2 * H * n * d + 2 * C * V
  return {
    forward: [
      product('linear: query', T, C, 2 * H * d),
      kernel('half lists', {
        slots: multiply * perHalf + selection,
        flops: rounded ? 2 * halves * n * d : 0,
        bytes: halves * d * (rounded ? 8 : 4) + halves * k * 8,
        launches: rounded ? 2 : 1,
      }),
      kernel('combine', {
        slots: T * H * (k * perWinner + 300),
        bytes: halves * k * 8 + T * L * 12,
      }),
      kernel('embedding bag', { slots: loads * perLoad, bytes: bagBytes }),
      product('linear: gate', T, C, V),
      kernel('silu gate', { bytes: 3 * T * V * 4 }),
      product('linear: values', T, V, V),
    ],
    backward: [
      product('linear backward: values, dx', T, V, V),
      product('linear backward: values, dW', V, T, V, 0),
      kernel('silu gate backward', { bytes: 5 * T * V * 4 }),
      kernel('bag, gradient of the weights', { slots: loads * perLoad, bytes: bagBytes }),
      kernel('half-key gradients', {
        slots: T * H * (2 * k * 10 + 300),
        bytes: T * L * 16 + T * L * 16 + pairs,
      }),
      kernel('dquery', { l2: rows, bytes: halves * d * 4, slots: (rows / 256) * 8 }),
      kernel('sort of the half-keys', { bytes: pairs * 5, launches: 5 }),
      kernel('dkeys', { l2: rows, bytes: pairs, slots: (rows / 256) * 8 }),
      product('linear backward: gate, dx', T, V, C),
      product('linear backward: gate, dW', V, T, C, 0),
      product('linear backward: query, dx', T, 2 * H * d, C),
      product('linear backward: query, dW', 2 * H * d, T, C, 0),
      kernel('sums of columns', { bytes: T * (2 * H * d + 2 * V) * 4, launches: 6 }),
    ],
    step: [
      // pairs made, a histogram, three passes, rows counted and written
      kernel('sort of the reads', { bytes: entries * 88 + touched * 8, launches: 13 }),
      kernel('entries resolved', { bytes: entries * 28 }),
      // made from the sorted positions, a histogram, one pass
      kernel('order of the visits', { bytes: entries * 4 + N * 36, launches: 6 }),
      kernel('row update', {
        l2: entries * V * 4,
        // loads of the gradient; then about 13 instructions for each element of a lane
        slots: ((entries * V * 4) / 512) * perUpdateLoad + (touched * V * 13) / 32,
        // 4 bytes an element of the table, exactly, read and written; the reads of dy that miss L2;
        // sectors of the row's visit, index, start, entries and state
        bytes: touched * (V * 8 + 200) + entries * V * 4 * missed,
      }),
      kernel('dense update', { bytes: parameters * 20 }), // Adagrad: one state,
    ],
  }
}

function seconds(work) {
  const { clock, multiprocessors, slots, memory, l2 } = gpu
  const bounds = {
    issue: work.slots / (clock * multiprocessors * slots),
    memory: work.bytes / memory,
    L2: work.l2 / l2,
    tensor: work.flops / tensor,
  }
  const [bound, time] = Object.entries(bounds).sort((a, b) => b[1] - a[1])[0]
  return { bound, time: time + work.launches * launch }
}

const percent = (x) => `${(x * 100).toFixed(1)}%`
const number = (x, unit) => (x === 0 ? '-' : (x / unit).toFixed(2))

function table(name, parts) {
  const lines = [
    `### ${name}`,
    '',
    '| kernel | slots, 10^9 | memory, GB | L2, GB | bound | ms |',
    '| --- | --: | --: | --: | --- | --: |',
  ]
  for (const [part, kernels] of Object.entries(parts)) {
    let total = 0
    for (const work of kernels) {
      const { bound, time } = seconds(work)
      total += time
      lines.push(
        `| ${work.name} | ${number(work.slots, 1e9)} | ${number(work.bytes, 1e9)} | ` +
          `${number(work.l2, 1e9)} | ${bound} | ${(time * 1e3).toFixed(3)} |`,
      )
    }
    lines.push(`| **${part}** | | | | | **${(total * 1e3).toFixed(2)}** |`)
  }
  return lines.join('\n')
}

const page = join(root, 'docs/kernels.md')
const text = readFileSync(page, 'utf8')
const [before] = text.split('<!-- estimates -->')
const tables = ['bfloat16', 'float32'].map((compute) => table(compute, estimates(compute)))
const loops =
  `Instructions of the compiled loops: ${perProduct.toFixed(2)} a product of tensor cores, ` +
  `${perFma.toFixed(2)} an FMA, ${perWinner.toFixed(1)} a winner of combine, ` +
  `${perUpdateLoad.toFixed(1)} a load of the row update. Of its reads of dy ${percent(missed)} ` +
  `miss L2. If half of L2 held dy, ${percent(missedOfHalf)} would miss, and the step would take ` +
  `${(((missedOfHalf - missed) * T * L * V * 4 * 1e3) / gpu.memory).toFixed(2)} ms more; with ` +
  `rows in ascending order ${ascending.map(percent).join(' and ')} would.`
writeFileSync(page, `${before}<!-- estimates -->\n\n${loops}\n\n${tables.join('\n\n')}\n`)
execFileSync('npx', ['prettier', '--log-level=warn', '--write', page], { cwd: root })
console.log(tables.join('\n\n'))

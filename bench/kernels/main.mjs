// `npm run bench:kernels`: the performance record of kernels without a GPU.
//   counted    by the emulator at small shapes with the design's counts per token: sectors moved
//   over the byte floor, bank conflicts
//   compiled   by ptxas for sm_80, sm_90 and sm_100: registers, spills, shared memory, and the
//   warps that then fit a multiprocessor
//   estimated  and nothing more: the time that the sectors of a case take at 3.0 TB/s (H100), if
//   memory is all that counts
// Prints tables, writes bench-output/kernels.json. --check: fails when a budget (budgets.json) is
// passed. --counts: no compiling.

import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { values: flags } = parseArgs({
  options: { check: { type: 'boolean' }, counts: { type: 'boolean' } },
})
const budgets = JSON.parse(readFileSync(new URL('budgets.json', import.meta.url), 'utf8'))
const architectures = [80, 90, 100]
// a budget of sectors beyond this has a reason in budgets.json: sectorsWhy, by how the case's name
// begins
const explained = 1.1
const bandwidth = 3.0e12 // bytes a second, an H100's

// Of a multiprocessor: registers, warps, shared bytes (CUDA programming guide, compute
// capabilities).
const limits = {
  80: { registers: 65536, warps: 64, shared: 164 * 1024, blocks: 32 },
  90: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
  100: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
}

function counted() {
  execFileSync('cmake', ['--build', 'build', '--target', 'kernel_counts', '-j', '2'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  return JSON.parse(
    execFileSync(`${root}build/test/simt/kernel_counts`, { encoding: 'utf8', maxBuffer: 2 ** 26 }),
  )
}

function groupBy(list, key) {
  const groups = new Map()
  for (const x of list) groups.set(key(x), [...(groups.get(key(x)) ?? []), x])
  return groups
}

const sum = (list, of) => list.reduce((total, x) => total + of(x), 0)
const sectors = (k) => k.loads.sectors + k.stores.sectors
const conflicts = (k) => k.sharedLoads.conflicts + k.sharedStores.conflicts
const sharedAccesses = (k) => k.sharedLoads.accesses + k.sharedStores.accesses

/** The .cu files, and a digest of each with all that it may include. */
function sources() {
  const native = `${root}native/`
  const all = readdirSync(native, { recursive: true }).map(String)
  const headers = createHash('sha256')
  for (const name of all.filter((n) => /\.(h|cuh)$/.test(n)).sort())
    headers.update(readFileSync(native + name))
  const common = headers.digest('hex')
  return all
    .filter((n) => n.endsWith('.cu'))
    .sort()
    .map((name) => ({
      name,
      digest: createHash('sha256')
        .update(common)
        .update(readFileSync(native + name))
        .digest('hex'),
    }))
}

/**
 * What ptxas says of one file for one architecture; cached in build/kernels as long as the sources
 * are the same.
 */
async function compiled({ name, digest }, architecture) {
  const file = `${name.replaceAll('/', '-')}-${architecture}-${digest.slice(0, 16)}.json`
  const cached = `${root}build/kernels/${file}`
  if (existsSync(cached)) return JSON.parse(readFileSync(cached, 'utf8'))
  const args = [
    '-std=c++20',
    '-O3',
    `-arch=sm_${architecture}`,
    '--expt-relaxed-constexpr',
    '-Xptxas',
    '-v',
    '-Inative',
    '-cubin',
    `native/${name}`,
    '-o',
    '/dev/null',
  ]
  if (name === 'ops/random_fill.cu') args.unshift('-fmad=false')
  const { stderr } = await promisify(execFile)('nvcc', args, { cwd: root, maxBuffer: 2 ** 26 })
  const names = [...stderr.matchAll(/Compiling entry function '(\w+)'/g)].map((m) => m[1])
  const readable =
    names.length === 0
      ? []
      : execFileSync('c++filt', names, { encoding: 'utf8' }).trim().split('\n')
  const parts = stderr.split(/Compiling entry function '\w+'/).slice(1)
  const kernels = parts.map((text, i) => ({
    instance: readable[i].replaceAll('ml::cuda::', '').replaceAll('(anonymous namespace)::', ''),
    kernel:
      /(\w+)\s*(<|\()/.exec(
        readable[i].replace(/^(void )?(ml::cuda::)?(\(anonymous namespace\)::)?/, ''),
      )?.[1] ?? readable[i],
    registers: Number(/Used (\d+) registers/.exec(text)?.[1] ?? 0),
    spilled: Number(/(\d+) bytes spill stores/.exec(text)?.[1] ?? 0),
    shared: Number(/(\d+) bytes smem/.exec(text)?.[1] ?? 0),
  }))
  const own = kernels.filter((k) => !k.instance.includes('cub::'))
  mkdirSync(`${root}build/kernels`, { recursive: true })
  writeFileSync(cached, JSON.stringify(own))
  return own
}

/**
 * Warps that fit a multiprocessor: registers go to warps by 256, shared memory to blocks with 1 KB
 * of the system's each.
 */
function residentWarps({ registers, shared }, threads, architecture) {
  const l = limits[architecture]
  const warps = Math.ceil(threads / 32)
  const byRegisters = Math.floor(l.registers / (Math.ceil((registers * 32) / 256) * 256 * warps))
  const byShared = Math.floor(l.shared / (shared + 1024))
  return Math.min(byRegisters, byShared, l.blocks, Math.floor(l.warps / warps)) * warps
}

async function compileAll() {
  const jobs = sources().flatMap((source) =>
    architectures.map((architecture) => ({ source, architecture })),
  )
  const results = []
  const work = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const { source, architecture } = job
      for (const k of await compiled(source, architecture))
        results.push({ file: source.name, architecture, ...k })
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  return results
}

const faults = []
const cases = counted().map((c) => {
  const moved = sum(c.kernels, sectors) * 32
  const main = c.kernels.map((k) => ({ kernel: k.kernel, ratio: (sectors(k) * 32) / c.floor }))
  return { ...c, ratio: moved / c.floor, main, estimate: (moved / bandwidth) * 1e6 }
})

/** A row of a table: the first cell to the left, the others to the right. */
const row = (widths, [first, ...others]) =>
  first.padEnd(58) + others.map((cell, i) => cell.padStart(widths[i])).join('')

const countWidths = [14, 18, 15]
console.log(
  row(countWidths, ['case, counted', 'sectors/floor', 'conflicts/access', 'µs, estimated']),
)
for (const c of cases) {
  const accesses = sum(c.kernels, sharedAccesses)
  const per = accesses === 0 ? '-' : (sum(c.kernels, conflicts) / accesses).toFixed(3)
  console.log(row(countWidths, [c.name, c.ratio.toFixed(3), per, c.estimate.toFixed(3)]))
  const budget = budgets.sectors[c.name]
  if (budget === undefined) faults.push(`${c.name}: no budget of sectors`)
  else if (c.ratio > budget)
    faults.push(`${c.name}: moves ${c.ratio.toFixed(3)} of its floor, the budget is ${budget}`)
  else if (
    budget > explained &&
    !Object.keys(budgets.sectorsWhy).some((start) => c.name.startsWith(start))
  )
    faults.push(`${c.name}: its budget is ${budget}, and budgets.json does not say why`)
  for (const [kernel, most] of Object.entries(budgets.kernelSectors[c.name] ?? {})) {
    const ratio = c.main.find((k) => k.kernel === kernel)?.ratio ?? Number.POSITIVE_INFINITY
    if (ratio > most)
      faults.push(
        `${c.name}: ${kernel} moves ${ratio.toFixed(3)} of the floor, its budget is ${most}`,
      )
  }
  for (const k of c.kernels) {
    const most = budgets.conflicts[k.kernel]?.perAccess ?? 0
    const got = sharedAccesses(k) === 0 ? 0 : conflicts(k) / sharedAccesses(k)
    if (got > most)
      faults.push(
        `${c.name}: ${k.kernel} has ${got.toFixed(3)} bank conflicts an access, ` +
          `the budget is ${most}`,
      )
  }
  const most = budgets.storedBytes[c.name]
  const stored = sum(c.kernels, (k) => k.stores.bytes)
  if (most !== undefined && stored > most)
    faults.push(`${c.name}: stores ${stored} bytes, the budget is ${most}: are scores written?`)
}

let instances = []
if (!flags.counts) {
  instances = await compileAll()
  const threads = new Map(cases.flatMap((c) => c.kernels).map((k) => [k.kernel, k]))
  const byInstance = groupBy(instances, (i) => `${i.file} ${i.instance}`)
  const widths = [10, 18, 12, 18]
  const kernels = 'kernel, compiled for sm_80 / 90 / 100'
  const head = [kernels, 'instances', 'max registers', 'spilled', 'min warps']
  console.log(`\n${row(widths, head)}`)
  for (const [kernel, all] of groupBy(instances, (i) => i.kernel)) {
    const run = threads.get(kernel)
    const of = (f) =>
      architectures
        .map((a) =>
          f(
            all.filter((i) => i.architecture === a),
            a,
          ),
        )
        .join('/')
    const registers = of((list) => Math.max(...list.map((i) => i.registers)))
    const spilled = of((list) => sum(list, (i) => i.spilled))
    const warps = run
      ? of((list, a) =>
          Math.min(
            ...list.map((i) =>
              residentWarps(
                { ...i, shared: Math.max(i.shared, run.mostSharedBytes) },
                run.mostThreads,
                a,
              ),
            ),
          ),
        )
      : '-'
    const count = String(all.length / architectures.length)
    console.log(row(widths, [kernel, count, registers, spilled, warps]))
  }
  for (const [name, list] of byInstance)
    for (const i of list)
      if (i.spilled > (budgets.spilledBytes[i.kernel] ?? 0))
        faults.push(`${name}: spills ${i.spilled} bytes on sm_${i.architecture}`)
}

mkdirSync(`${root}bench-output`, { recursive: true })
writeFileSync(
  `${root}bench-output/kernels.json`,
  `${JSON.stringify({ cases, instances }, null, 1)}\n`,
)
console.log(
  '\nCounted and compiled, not timed: no GPU has run this. In full: bench-output/kernels.json',
)
for (const fault of faults) console.error(`budget: ${fault}`)
if (flags.check) {
  const total = cases.length + instances.length
  console.log(`${total - faults.length} passed, ${faults.length} failed`)
  process.exit(faults.length === 0 ? 0 : 1)
}

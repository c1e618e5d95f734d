// `npm run bench:kernels`: the performance record of kernels without a GPU.
//   counted    by the emulator, at small shapes with the design's counts per token: bytes of all
//              sectors over the byte floor, bank conflicts; calls of the runtime in a training step
//   compiled   by ptxas, for every architecture: registers, spills, shared memory,
//              and the warps that then fit a multiprocessor; by the PTX: generic accesses, the
//              share of tensor-core products in loops, loads before their first use
//   estimated  the time to move the sectors of a case at 3.0 TB/s (H100), if memory is the only
//              bound
// Prints tables, writes bench-output/kernels.json. --check: fails where a budget (budgets.json) is
// exceeded. --counts: no compiling.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { architectures, compileAll, residentWarps } from './compiled.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
const { values: flags } = parseArgs({
  options: { check: { type: 'boolean' }, counts: { type: 'boolean' } },
})
const budgets = JSON.parse(readFileSync(new URL('budgets.json', import.meta.url), 'utf8'))
// a budget of sectors above this needs a reason in budgets.json: sectorsWhy, by a prefix of the
// case's name
const explained = 1.1
const bandwidth = 3.0e12 // bytes a second, an H100's

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
const perAccess = (kernels) => {
  const accesses = sum(kernels, sharedAccesses)
  return accesses === 0 ? 0 : sum(kernels, conflicts) / accesses
}
/** One line of a table: the first column to the left, the others to the right. */
const line = (name, widths, columns) =>
  name.padEnd(58) + columns.map((text, i) => String(text).padStart(widths[i])).join('')

const failures = []
const fail = (text) => failures.push(text)

/** The sectors that a case moves over its floor, against its budget and its kernels'. */
function checkSectors(c) {
  const budget = budgets.sectors[c.name]
  if (budget === undefined) fail(`${c.name}: no budget of sectors`)
  else if (c.ratio > budget)
    fail(`${c.name}: moves ${c.ratio.toFixed(3)} times its floor, the budget is ${budget}`)
  else if (
    budget > explained &&
    !Object.keys(budgets.sectorsWhy).some((prefix) => c.name.startsWith(prefix))
  )
    fail(`${c.name}: its budget is ${budget}, and budgets.json does not say why`)
  for (const [kernel, max] of Object.entries(budgets.kernelSectors[c.name] ?? {})) {
    const k = c.kernels.find((k) => k.kernel === kernel)
    const ratio = k ? (sectors(k) * 32) / c.floor : Number.POSITIVE_INFINITY
    if (ratio > max)
      fail(`${c.name}: ${kernel} moves ${ratio.toFixed(3)} times the floor, its budget is ${max}`)
  }
}

function checkConflictsAndStores(c) {
  for (const k of c.kernels) {
    const max = budgets.conflicts[k.kernel]?.perAccess ?? 0
    const found = perAccess([k])
    if (found > max)
      fail(
        `${c.name}: ${k.kernel} has ${found.toFixed(3)} bank conflicts an access, ` +
          `its budget is ${max}`,
      )
  }
  const max = budgets.storedBytes[c.name]
  const stored = sum(c.kernels, (k) => k.stores.bytes)
  if (stored > max)
    fail(`${c.name}: stores ${stored} bytes, the budget is ${max}: are scores written?`)
}

function reportCounts(cases) {
  const widths = [14, 18, 15]
  console.log(line('case, counted', widths, ['sectors/floor', 'conflicts/access', 'µs, estimated']))
  for (const c of cases) {
    const shared = sum(c.kernels, sharedAccesses) === 0 ? '-' : perAccess(c.kernels).toFixed(3)
    console.log(line(c.name, widths, [c.ratio.toFixed(3), shared, c.estimate.toFixed(3)]))
    checkSectors(c)
    checkConflictsAndStores(c)
  }
}

/** What a training step asks of the CUDA runtime. */
function reportCalls(steps) {
  const calls = ['launches', 'allocations', 'frees', 'timedEvents']
  const widths = [14, 15, 10, 14]
  console.log()
  console.log(line('step, calls of the runtime', widths, calls))
  for (const { name, calls: found } of steps) {
    console.log(
      line(
        name,
        widths,
        calls.map((call) => found[call]),
      ),
    )
    const budget = budgets.calls[name]
    if (budget === undefined) fail(`${name}: no budget of calls`)
    for (const [call, max] of Object.entries(budget ?? {}))
      if (found[call] > max) fail(`${name}: ${found[call]} ${call}, the budget is ${max}`)
  }
}

function reportInstances(instances, cases) {
  const widths = [10, 30, 18, 24]
  console.log()
  const counts = new Map(cases.flatMap((c) => c.kernels).map((k) => [k.kernel, k]))
  console.log(
    line(`kernel, sm_${architectures.join(' / ')}`, widths, [
      'instances',
      'registers, max',
      'spilled',
      'warps, min',
    ]),
  )
  for (const [kernel, all] of groupBy(instances, (i) => i.kernel)) {
    const run = counts.get(kernel)
    const of = (f) => architectures.map((a) => f(all.filter((i) => i.architecture === a))).join('/')
    const warpsOf = (i) => {
      const shared = Math.max(i.shared, run.maxSharedBytes)
      return residentWarps({ ...i, shared }, run.maxThreads, i.architecture)
    }
    console.log(
      line(kernel, widths, [
        all.length / architectures.length,
        of((list) => Math.max(...list.map((i) => i.registers))),
        of((list) => sum(list, (i) => i.spilled)),
        run ? of((list) => Math.min(...list.map(warpsOf))) : '-',
      ]),
    )
  }
  for (const i of instances)
    if (i.spilled > (budgets.spilledBytes[i.kernel] ?? 0))
      fail(`${i.file} ${i.instance}: spills ${i.spilled} bytes on sm_${i.architecture}`)
}

/** Budgets are by the beginning of an instance's name. */
function budgetOf(table, { instance }) {
  const name = instance.replace(/^void /, '')
  return Object.entries(table).find(([prefix]) => name.startsWith(prefix))?.[1]
}

/** What the PTX must show, for sm_80 and later: generic accesses, tensor cores, loads in flight. */
function checkPtx(instances) {
  for (const i of instances.filter((i) => i.ptx)) {
    const what = `${i.file} ${i.instance}`
    const generic = budgetOf(budgets.genericAccesses, i) ?? Number.POSITIVE_INFINITY
    if (i.ptx.generic > generic)
      fail(`${what}: ${i.ptx.generic} generic accesses, the budget is ${generic}`)
    const share = budgetOf(budgets.productShare, i) ?? 0
    if (i.ptx.productShare < share)
      fail(`${what}: ${i.ptx.productShare.toFixed(2)} of its loop are products, not ${share}`)
    const loads = budgetOf(budgets.loadsInFlight, i) ?? 0
    if (i.ptx.loads < loads) fail(`${what}: ${i.ptx.loads} loads in flight, not ${loads}`)
  }
  for (const table of ['genericAccesses', 'productShare', 'loadsInFlight'])
    for (const prefix of Object.keys(budgets[table]))
      if (!instances.some((i) => i.instance.replace(/^void /, '').startsWith(prefix)))
        fail(`budgets.json: ${table} has "${prefix}", and no kernel begins so`)
}

/** The compiler may move inline assembly across a barrier, unless it is volatile. */
function checkAssembly() {
  const native = `${root}native/`
  for (const name of readdirSync(native, { recursive: true }).map(String))
    if (/\.(cu|cuh)$/.test(name) && /\basm\s*\(/.test(readFileSync(native + name, 'utf8')))
      fail(`native/${name}: inline assembly that is not volatile`)
}

const all = counted()
const steps = all.filter((c) => c.calls)
const cases = all
  .filter((c) => !c.calls)
  .map((c) => {
    const moved = sum(c.kernels, sectors) * 32
    return { ...c, ratio: moved / c.floor, estimate: (moved / bandwidth) * 1e6 }
  })
reportCounts(cases)
reportCalls(steps)
const instances = flags.counts ? [] : await compileAll()
if (!flags.counts) {
  reportInstances(instances, cases)
  checkPtx(instances)
}
checkAssembly()

mkdirSync(`${root}bench-output`, { recursive: true })
writeFileSync(
  `${root}bench-output/kernels.json`,
  `${JSON.stringify({ cases, steps, instances }, null, 1)}\n`,
)
console.log(
  '\nCounted and compiled, not timed: no GPU has run this. In full: bench-output/kernels.json',
)
for (const failure of failures) console.error(`budget: ${failure}`)
if (flags.check) {
  const total = cases.length + steps.length + instances.length
  console.log(`${total - failures.length} passed, ${failures.length} failed`)
  process.exit(failures.length === 0 ? 0 : 1)
}

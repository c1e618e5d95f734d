// `npm run bench`: every operation beside the machine's ceiling, plain loops and the installed peers.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Backend } from './backends/backend.js'
import { threadCounts } from './backends/backend.js'
import { Ceiling, CeilingMemory } from './backends/ceiling.js'
import { Ours } from './backends/ours.js'
import { Plain } from './backends/plain.js'
import { type HostTable, makeTable } from './data.js'
import { bagCases } from './groups/bag.js'
import type { Case, Environment } from './groups/case.js'
import { gemmCases } from './groups/gemm.js'
import { lookupCases } from './groups/lookup.js'
import { efforts } from './harness.js'
import { commit, machine } from './machine.js'
import { type Options, parse, UsageError, usage } from './options.js'
import { print } from './report.js'
import { merge, type Results, readResults, writeResults } from './results.js'
import { full, quick, type TableDType, tiny } from './shapes.js'

// Tables are gigabytes: what a case let go of must be gone before the next.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const shapesOf = { full, quick, tiny }

function allCases(options: Options): Case[] {
  const shapes = shapesOf[options.size]
  return [...bagCases(shapes), ...lookupCases(shapes), ...gemmCases(shapes)]
}

function tableStore(ours: Ours) {
  const kept = new Map<string, HostTable>()
  const round = (x: Float32Array, dtype: 'float16' | 'bfloat16') => {
    const rounded = ours.device.tensor(x, [x.length], dtype)
    const bits = rounded.dataSync() as Uint16Array
    rounded.dispose()
    return bits
  }
  const get = (slots: number, dim: number, dtype: TableDType): HostTable => {
    const key = `${slots}x${dim}/${dtype}`
    const found = kept.get(key)
    if (found) return found
    kept.clear()
    const table = makeTable(slots, dim, dtype, round)
    kept.set(key, table)
    return table
  }
  return get
}

async function run(options: Options): Promise<void> {
  const cases = allCases(options).filter((c) => options.only?.test(c.name) ?? true)
  if (cases.length === 0) throw new UsageError(`--only matches none of the cases; --list names them.`)
  if (options.list) {
    for (const c of cases) console.log(c.name)
    return
  }
  const counts = threadCounts(options.threads)
  const memory = new CeilingMemory()
  const ours = counts.map((threads) => new Ours(threads))
  const contenders: Record<string, string> = {}
  const backends: Backend[] = [...counts.map((threads) => new Ceiling(threads, memory)), ...ours]
  if (!options.without.has('plain')) backends.push(new Plain())

  const fresh: Results = { machine: machine(), contenders, cases: {} }
  const { processor, cores, instructions } = fresh.machine
  console.log(`${processor}, ${cores} cores, ${instructions}; Node ${fresh.machine.node}; commit ${commit() ?? 'unknown'}\n`)
  const env: Environment = {
    shapes: shapesOf[options.size],
    effort: efforts[options.size],
    backends,
    ours,
    threads: options.threads,
    table: tableStore(ours[0]!),
    log: (line) => console.log(line),
  }
  let resident = ''
  for (const c of cases) {
    if (c.resident !== resident) {
      for (const backend of backends) await backend.forget?.()
      resident = c.resident
    }
    collect()
    const result = await c.run(env)
    fresh.cases[c.name] = {
      ...result,
      commit: commit() ?? 'unknown',
      date: new Date().toISOString().slice(0, 10),
      command: ['npm run bench --', ...process.argv.slice(2)].join(' '),
    }
    console.log(`${print(result)}\n`)
    writeResults(options.json, merge(options.fresh ? undefined : readResults(options.json), fresh))
  }
  for (const backend of backends) await backend.close?.()
}

try {
  const options = parse(process.argv.slice(2))
  if (options.help) console.log(usage)
  else await run(options)
} catch (error) {
  if (!(error instanceof UsageError)) throw error
  console.error(error.message)
  process.exitCode = 2
}

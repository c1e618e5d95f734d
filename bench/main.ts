// `npm run bench`: every operation beside the machine's ceiling, plain loops and the installed
// peers.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { exitOnClosedPipe } from '../lib/cli/text.js'
import type { Backend } from './backends/backend.js'
import { threadCounts } from './backends/backend.js'
import { Ceiling, CeilingMemory } from './backends/ceiling.js'
import { loadOrt, OnnxRuntime } from './backends/onnxruntime.js'
import { Ours } from './backends/ours.js'
import { Plain } from './backends/plain.js'
import { findPython, PyTorch, Python } from './backends/pytorch.js'
import { loadTf, TfJs } from './backends/tfjs.js'
import { writeChart } from './chart.js'
import { type HostTable, makeTable } from './data.js'
import { writeDocs } from './docs.js'
import { bagCases } from './groups/bag.js'
import { type Case, CheckFailed, type Environment } from './groups/case.js'
import { gemmCases } from './groups/gemm.js'
import { layerCases } from './groups/layer.js'
import { lookupCases } from './groups/lookup.js'
import { efforts } from './harness.js'
import { commit, machine } from './machine.js'
import { type Options, parse, UsageError, usage } from './options.js'
import { peerVersion } from './peers/require.js'
import { print } from './report.js'
import { leftOut, merge, type Results, readResults, writeResults } from './results.js'
import { full, quick, type TableDType, tiny } from './shapes.js'
import { targetsText } from './targets.js'

// Tables are gigabytes: what a case let go of must be gone before the next.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

const shapesOf = { full, quick, tiny }

function allCases(options: Options): Case[] {
  const shapes = shapesOf[options.size]
  return [...bagCases(shapes), ...lookupCases(shapes), ...gemmCases(shapes), ...layerCases(shapes)]
}

/** As a shell takes it for one word. */
const quoted = (arg: string) =>
  /^[\w./:=@,^-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`

/**
 * Plain loops and the peers that are here; `contenders` gets their versions, or why they are
 * absent.
 */
async function others(
  options: Options,
  counts: readonly number[],
  contenders: Record<string, string>,
  helpers: number[],
): Promise<Backend[]> {
  const backends: Backend[] = []
  const wanted = (name: string, label: string) => {
    if (options.without.has(name)) contenders[label] = leftOut
    return !options.without.has(name)
  }
  if (wanted('plain', 'plain TypeScript')) {
    backends.push(new Plain())
    contenders['plain TypeScript'] = `loops, V8 ${process.versions.v8}`
  }
  if (wanted('onnxruntime', 'onnxruntime-node')) {
    const ort = loadOrt()
    if (ort) backends.push(...counts.map((threads) => new OnnxRuntime(threads, ort)))
    contenders['onnxruntime-node'] = ort
      ? peerVersion('onnxruntime-node')
      : 'not installed: npm run bench:peers'
  }
  if (wanted('tfjs', 'tfjs-wasm')) {
    const tf = await loadTf()
    if (tf) backends.push(new TfJs(tf))
    contenders['tfjs-wasm'] = tf ? tf.version_core : 'not installed: npm run bench:peers'
  }
  if (wanted('pytorch', 'PyTorch')) {
    const python = findPython()
    if (python) {
      const { process, version } = await Python.start(python)
      helpers.push(process.pid)
      backends.push(...counts.map((threads) => new PyTorch(threads, process)))
      contenders['PyTorch'] = version
    } else {
      contenders['PyTorch'] =
        'no python3 that can import torch: on Debian, apt-get install python3-torch libopenblas0'
    }
  }
  return backends
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
  if (options.docsOnly) {
    const kept = readResults(options.json)
    if (!kept)
      throw new UsageError(
        `There are no results in ${options.json} to write docs from; run the benchmark first.`,
      )
    return writeDocs(kept)
  }
  const cases = allCases(options).filter((c) => options.only?.test(c.name) ?? true)
  if (cases.length === 0)
    throw new UsageError(`--only matches none of the cases; --list names them.`)
  if (options.list) {
    for (const c of cases) console.log(c.name)
    return
  }
  const counts = threadCounts(options.threads)
  const memory = new CeilingMemory()
  const ours = counts.map((threads) => new Ours(threads))
  const contenders: Record<string, string> = {}
  const helpers: number[] = []
  const backends: Backend[] = [...ours.map((o) => new Ceiling(o.threads, memory, o)), ...ours]
  backends.push(...(await others(options, counts, contenders, helpers)))

  const fresh: Results = { machine: machine(), contenders, cases: {} }
  const { processor, cores, instructions } = fresh.machine
  console.log(
    `${processor}, ${cores} cores, ${instructions}; Node ${fresh.machine.node}; commit ${commit() ?? 'unknown'}`,
  )
  console.log(
    `${Object.entries(contenders)
      .map(([name, version]) => `${name}: ${version}`)
      .join('; ')}\n`,
  )
  const env: Environment = {
    effort: {
      ...efforts[options.size],
      ...(options.seconds !== undefined && { budget: options.seconds }),
    },
    backends,
    helpers,
    ours,
    table: tableStore(ours[0]!),
  }
  try {
    await runCases(cases, env, options, fresh)
  } finally {
    for (const backend of backends) await backend.close?.()
  }
  const results = readResults(options.json)!
  const chart = await writeChart(options.json.replace(/(\.json)?$/, '.svg'), results)
  console.log(targetsText(results))
  console.log(`\n${options.json} has all figures${chart ? `, ${chart} the chart` : ''}.`)
  if (options.writeDocs) await writeDocs(results)
}

async function runCases(
  cases: readonly Case[],
  env: Environment,
  options: Options,
  fresh: Results,
): Promise<void> {
  // Where the results are kept says nothing about them.
  const args = process.argv
    .slice(2)
    .filter((arg, i, all) => !arg.startsWith('--json') && all[i - 1] !== '--json')
  const command = ['npm run bench --', ...args.map(quoted)].join(' ')
  let resident = ''
  for (const c of cases) {
    if (c.resident !== resident) {
      for (const backend of env.backends) await backend.forget?.()
      resident = c.resident
    }
    collect()
    const result = await c.run(env)
    fresh.cases[c.name] = {
      ...result,
      commit: commit() ?? 'unknown',
      date: new Date().toISOString().slice(0, 10),
      command,
    }
    console.log(`${print(result)}\n`)
    writeResults(options.json, merge(options.fresh ? undefined : readResults(options.json), fresh))
  }
}

exitOnClosedPipe()
try {
  const options = parse(process.argv.slice(2))
  if (options.help) console.log(usage)
  else await run(options)
} catch (error) {
  const expected = error instanceof UsageError || error instanceof CheckFailed
  console.error(expected ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
}

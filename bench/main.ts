// `npm run bench`: every operation beside the machine's ceilings and the installed peers.

import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { exitOnClosedPipe } from '../lib/cli/text.js'
import type { Backend } from './backends/backend.js'
import { threadCounts } from './backends/backend.js'
import { Ceiling, CeilingMemory } from './backends/ceiling.js'
import { loadOrt, OnnxRuntime } from './backends/onnxruntime.js'
import { Ours } from './backends/ours.js'
import { findPython, PyTorch, Python } from './backends/pytorch.js'
import { writeChart } from './chart.js'
import { tableCache } from './data.js'
import { writeDocs } from './docs.js'
import { bagCases } from './groups/bag.js'
import { callCases } from './groups/calls.js'
import { type Case, CheckFailed, type Environment } from './groups/case.js'
import { gemmCases } from './groups/gemm.js'
import { layerCases } from './groups/layer.js'
import { lookupCases } from './groups/lookup.js'
import { modelCases } from './groups/model.js'
import { tokenCase } from './groups/token.js'
import { updateCases } from './groups/update.js'
import { efforts } from './harness.js'
import { commit, machine } from './machine.js'
import { type Options, parse, UsageError, usage } from './options.js'
import { peerVersion } from './peers/require.js'
import { caseText, targetsText } from './report.js'
import { leftOut, merge, type Results, readResults, writeResults } from './results.js'
import { full, quick, tiny } from './shapes.js'

// Tables are gigabytes: those of a case must be collected before the next.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function allCases(options: Options): Case[] {
  const shapes = { full, quick, tiny }[options.size]
  return [
    ...bagCases(shapes),
    ...updateCases(shapes),
    ...lookupCases(shapes),
    ...gemmCases(shapes),
    ...layerCases(shapes),
    tokenCase(shapes),
    ...modelCases(shapes),
    ...callCases(shapes),
  ]
}

interface Peers {
  backends: Backend[]
  /** Versions, or why a peer is absent. */
  contenders: Record<string, string>
  pids: number[]
}

async function findPeers({ without }: Options, counts: readonly number[]): Promise<Peers> {
  const peers: Peers = { backends: [], contenders: {}, pids: [] }
  const { backends, contenders, pids } = peers
  const absent = (option: string, why: string) => (without.has(option) ? leftOut : why)

  const ort = without.has('onnxruntime') ? undefined : loadOrt()
  if (ort) backends.push(...counts.map((threads) => new OnnxRuntime(threads, ort)))
  contenders['onnxruntime-node'] = ort
    ? peerVersion('onnxruntime-node')
    : absent('onnxruntime', 'not installed: npm run bench:peers')

  const python = without.has('pytorch') ? undefined : findPython()
  const torch = python ? await Python.start(python) : undefined
  if (torch) {
    pids.push(torch.process.pid)
    backends.push(...counts.map((threads) => new PyTorch(threads, torch.process)))
  }
  contenders['PyTorch'] =
    torch?.version ??
    absent(
      'pytorch',
      'no python3 that can import torch: on Debian, apt-get install python3-torch libopenblas0',
    )
  return peers
}

/** As a shell takes it for one word. */
const quoted = (arg: string) =>
  /^[\w./:=@,^-]+$/.test(arg) ? arg : `'${arg.replaceAll("'", "'\\''")}'`

/** The command of this run, without the file of the results, which says nothing about them. */
function commandLine(): string {
  const args = process.argv
    .slice(2)
    .filter((arg, i, all) => !arg.startsWith('--json') && all[i - 1] !== '--json')
  return ['npm run bench --', ...args.map(quoted)].join(' ')
}

async function runCases(
  cases: readonly Case[],
  env: Environment,
  options: Options,
  fresh: Results,
): Promise<void> {
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
      command: commandLine(),
    }
    console.log(caseText(result))
    writeResults(options.json, merge(options.fresh ? undefined : readResults(options.json), fresh))
  }
}

async function measure(cases: readonly Case[], options: Options): Promise<Results> {
  const counts = threadCounts(options.threads)
  const memory = new CeilingMemory()
  const ours = counts.map((threads) => new Ours(threads))
  const { backends: peers, contenders, pids } = await findPeers(options, counts)
  const ceilings = ours.map((o) => new Ceiling(o.threads, memory, o))
  const backends: Backend[] = [...ceilings, ...ours, ...peers]
  const fresh: Results = { machine: machine(), contenders, cases: {} }
  const { processor, cores, instructions, node } = fresh.machine
  console.log(
    `${processor}, ${cores} cores, ${instructions}; Node ${node}; commit ${commit() ?? 'unknown'}`,
  )
  for (const [name, version] of Object.entries(contenders)) console.log(`${name}: ${version}`)
  console.log()
  const effort = efforts[options.size]
  const env: Environment = {
    effort: { ...effort, budget: options.seconds ?? effort.budget },
    backends,
    pids,
    ours,
    table: tableCache(async (x, dtype) => {
      using rounded = ours[0]!.device.tensor(x, [x.length], dtype)
      return await rounded.bits()
    }),
  }
  try {
    await runCases(cases, env, options, fresh)
  } finally {
    for (const backend of backends) await backend.close?.()
  }
  return readResults(options.json)!
}

async function run(options: Options): Promise<void> {
  if (options.docsOnly) {
    const stored = readResults(options.json)
    if (!stored)
      throw new UsageError(`${options.json} has no results to write; run the benchmark first.`)
    return writeDocs(stored)
  }
  const cases = allCases(options).filter((c) => options.only?.test(c.name) ?? true)
  if (cases.length === 0)
    throw new UsageError(`--only matches none of the cases; --list names them.`)
  if (options.list) {
    for (const c of cases) console.log(c.name)
    return
  }
  const results = await measure(cases, options)
  const chart = await writeChart(options.json.replace(/(\.json)?$/, '.svg'), results)
  console.log(targetsText(results))
  console.log(`\n${options.json} has all figures${chart ? `, ${chart} the chart` : ''}.`)
  if (options.writeDocs) await writeDocs(results)
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

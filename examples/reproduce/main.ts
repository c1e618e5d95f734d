// npm run reproduce: the studies, and the report of them.

import { mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { machine } from '../../bench/machine.js'
import { exitOnClosedPipe } from '../../lib/cli/text.js'
import { openDevice } from '../../lib/index.js'
import { attribution } from '../demo/data.js'
import { Progress } from './progress.js'
import { reportFacts } from './report-facts.js'
import { Runs } from './runs.js'
import { type Size, sizes } from './sizes.js'
import { studyFacts } from './study-facts.js'

const help = `npm run reproduce -- [options]

Compares memory layers with dense blocks, mixtures of experts and PEER on facts, and writes a report
with charts. A command that was stopped goes on where it was.

  --size NAME    full (default), quick (10 minutes) or sample (a minute)
  --quick        the same as --size quick
  --runs DIR     where finished runs are kept (default reproduce-runs)
  --out DIR      where the report goes (default docs/reproduction for full, else RUNS/report)
  --threads N    CPU threads (default: all cores)
  --help         this text`

function readFlags() {
  const string = { type: 'string' } as const
  const { values } = parseArgs({
    options: {
      size: string,
      quick: { type: 'boolean' },
      runs: string,
      out: string,
      threads: string,
      help: { type: 'boolean' },
    },
  })
  const name = values.quick ? 'quick' : (values.size ?? 'full')
  if (!Object.hasOwn(sizes, name)) throw new Error(`--size is full, quick or sample, not "${name}"`)
  const size = sizes[name as Size['name']]
  const runs = values.runs ?? 'reproduce-runs'
  const out = values.out ?? (name === 'full' ? 'docs/reproduction' : join(runs, 'report'))
  const threads = values.threads === undefined ? undefined : Number(values.threads)
  return { size, runs, out, threads, help: values.help === true }
}

function preamble(size: Size, description: string): string {
  const { processor, cores, memory, node } = machine()
  const small =
    `> **Of \`--size ${size.name}\` alone**: few facts, epochs and seeds, to see that it ` +
    'works. The figures say little of the systems; those of all facts are not made yet.'
  const grid = size.grid.map(({ lr, tableLr }) => `${lr} / ${tableLr}`).join(', ')
  return [
    '# Reproduction',
    ...(size.name === 'full' ? [] : [small]),
    [
      `Written by \`npm run reproduce -- --size ${size.name}\`, on ${processor}, ${cores} cores,`,
      `${memory}, Node ${node}: ${description}. Seeds ${size.seeds.join(', ')}; ${size.epochs}`,
      `epochs in batches of ${size.batch}; AdamW, betas 0.9 and 0.99, a short warm-up, then`,
      `linearly to 0. Rates (all parameters / tables): ${grid}; of several, each system has the`,
      'best of one seed on an eighth of the facts.',
    ].join(' '),
  ].join('\n\n')
}

async function main(): Promise<void> {
  const flags = readFlags()
  if (flags.help) return console.log(help)
  const { size } = flags
  const device = openDevice('cpu', flags.threads === undefined ? {} : { threads: flags.threads })
  const progress = new Progress()
  mkdirSync(flags.out, { recursive: true })
  const facts = await studyFacts({ device, runs: new Runs(flags.runs), size, progress })
  progress.stop()
  const sections = [preamble(size, device.description), reportFacts(flags.out, facts), attribution]
  const page = join(flags.out, 'index.md')
  writeFileSync(page, `${sections.join('\n\n')}\n`)
  console.log(`${page} is written.`)
}

exitOnClosedPipe()
main().catch((error: unknown) => {
  console.error(error instanceof Error ? error.message : error)
  process.exitCode = 1
})

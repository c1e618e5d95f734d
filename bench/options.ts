// The command line of the benchmark.

import { availableParallelism } from 'node:os'
import { parseArgs } from 'node:util'

export const usage = `npm run bench -- [options]

Times every operation of this package beside what the machine can do at best and the peers that are
installed (onnxruntime-node after \`npm run bench:peers\`; PyTorch where python3 can import torch).
Each result is checked first.

  --only REGEX      cases whose name matches, for example 'bag/.*uniform' or '^lookup'
  --quick           fewer shapes and repetitions: a few minutes
  --list            the names of the cases, without running them
  --threads N       threads of "all threads" (default: every core, ${availableParallelism()} here)
  --seconds S       timing of each contender of a case (default 0.5; with --quick 0.25)
  --without NAME    leaves a contender out; may be repeated (onnxruntime, pytorch)
  --json FILE       where results are stored (default bench-output/results.json); those of cases
                    that are not run now are kept
  --fresh           forgets the results of earlier runs
  --write-docs      after the run, writes docs/benchmarks.md and its chart from all stored results
  --docs-only       only that, without a run
  --help            this text
`

const flags = {
  only: { type: 'string' },
  quick: { type: 'boolean' },
  tiny: { type: 'boolean' },
  list: { type: 'boolean' },
  threads: { type: 'string' },
  seconds: { type: 'string' },
  without: { type: 'string', multiple: true },
  json: { type: 'string' },
  fresh: { type: 'boolean' },
  'write-docs': { type: 'boolean' },
  'docs-only': { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const

export interface Options {
  only: RegExp | undefined
  size: 'full' | 'quick' | 'tiny'
  list: boolean
  threads: number
  seconds: number | undefined
  without: ReadonlySet<string>
  json: string
  fresh: boolean
  writeDocs: boolean
  docsOnly: boolean
  help: boolean
}

const peerNames = ['onnxruntime', 'pytorch']

export class UsageError extends Error {}

export function parse(args: readonly string[]): Options {
  let values: ReturnType<typeof parseArgs<{ options: typeof flags }>>['values']
  try {
    values = parseArgs({ args: [...args], options: flags }).values
  } catch (error) {
    const unknown = /Unknown option '(.+?)'/.exec(String(error))?.[1]
    if (unknown)
      throw new UsageError(
        `There is no option ${unknown}; the options are ${Object.keys(flags)
          .filter((f) => f !== 'tiny')
          .map((f) => `--${f}`)
          .join(', ')}.`,
      )
    throw new UsageError((error as Error).message.split(/\.? *\n|\. /)[0]!.replace(/\.?$/, '.'))
  }
  const without = values.without ?? []
  for (const name of without)
    if (!peerNames.includes(name))
      throw new UsageError(`--without is "${name}", wanted one of ${peerNames.join(', ')}.`)
  return {
    only: regex(values.only),
    size: values.tiny ? 'tiny' : values.quick ? 'quick' : 'full',
    list: values.list ?? false,
    threads: values.threads === undefined ? availableParallelism() : threadCount(values.threads),
    seconds: values.seconds === undefined ? undefined : secondsOf(values.seconds),
    without: new Set(without),
    json: values.json ?? 'bench-output/results.json',
    fresh: values.fresh ?? false,
    writeDocs: values['write-docs'] ?? false,
    docsOnly: values['docs-only'] ?? false,
    help: values.help ?? false,
  }
}

function regex(text: string | undefined): RegExp | undefined {
  if (text === undefined) return undefined
  try {
    return new RegExp(text)
  } catch {
    throw new UsageError(`--only is "${text}", which is not a regular expression.`)
  }
}

function threadCount(text: string): number {
  const count = Number(text)
  if (!Number.isInteger(count) || count < 1 || count > 1024)
    throw new UsageError(`--threads is "${text}", wanted an integer from 1 to 1024.`)
  return count
}

function secondsOf(text: string): number {
  const seconds = Number(text)
  if (!(seconds > 0 && seconds <= 60))
    throw new UsageError(`--seconds is "${text}", wanted a number above 0, up to 60.`)
  return seconds
}

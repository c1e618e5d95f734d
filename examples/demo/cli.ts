import { parseArgs } from 'node:util'
import type { Compute } from '../../lib/index.js'

/** A mistake of the user, said in one sentence. */
export class UsageError extends Error {}

export const help = `npm run demo -- [options]

Teaches 119,077 facts (which country is this city in?) to a Memory+ layer and to a dense
feed-forward block with as many multiply-adds, and shows what each of them remembers.

  --facts N      learn the N facts with the largest cities (default: all)
  --epochs N     passes over the facts (default 15)
  --seed N       of encoder, models and shuffles (default 1)
  --device NAME  auto, cpu, cuda, cuda:N (default auto)
  --compute NAME of matrix products: float32, bfloat16, tf32 (default float32)
  --threads N    CPU threads (default: all cores)
  --out DIR      where chart and checkpoint go (default demo-output)
  --profile      print where the time of a training step goes
  --ask NAME     answer from the checkpoint in DIR instead of training
  --help         this text`

export interface Flags {
  facts: number
  epochs: number
  seed: number
  device: string
  compute: Compute
  threads: number | undefined
  out: string
  ask: string | undefined
  profile: boolean
  help: boolean
}

function parseInteger(
  name: string,
  text: string | undefined,
  fallback: number,
  min: number,
): number {
  if (text === undefined) return fallback
  const value = Number(text)
  if (!Number.isInteger(value) || value < min || text.trim() === '')
    throw new UsageError(`--${name} must be an integer from ${min}, got "${text}".`)
  return value
}

const computes: readonly Compute[] = ['float32', 'bfloat16', 'tf32']

function parseCompute(text: string): Compute {
  const found = computes.find((name) => name === text)
  if (!found)
    throw new UsageError(`--compute must be one of ${computes.join(', ')}, got "${text}".`)
  return found
}

export function readFlags(args: readonly string[]): Flags {
  const string = { type: 'string' } as const
  let values: Record<string, string | boolean | undefined>
  try {
    values = parseArgs({
      args: [...args],
      options: {
        facts: string,
        epochs: string,
        seed: string,
        device: string,
        compute: string,
        threads: string,
        out: string,
        ask: string,
        profile: { type: 'boolean' },
        help: { type: 'boolean' },
      },
    }).values
  } catch (error) {
    throw new UsageError(
      `${(error as Error).message.split('. ')[0]!.replace(/\.$/, '')}; --help lists the options.`,
    )
  }
  const text = (name: string) => values[name] as string | undefined
  const threads = text('threads')
  return {
    facts: parseInteger('facts', text('facts'), Number.POSITIVE_INFINITY, 12),
    epochs: parseInteger('epochs', text('epochs'), 15, 1),
    seed: parseInteger('seed', text('seed'), 1, 0),
    device: text('device') ?? 'auto',
    compute: parseCompute(text('compute') ?? 'float32'),
    threads: threads === undefined ? undefined : parseInteger('threads', threads, 0, 1),
    out: text('out') ?? 'demo-output',
    ask: text('ask'),
    profile: values['profile'] === true,
    help: values['help'] === true,
  }
}

// The machine and the commit: a timing without machine, commit and command says nothing.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { availableParallelism, cpus, totalmem } from 'node:os'
import { fileURLToPath } from 'node:url'
import { openDevice } from '../lib/index.js'

export interface Machine {
  processor: string
  /** What tells processors of one name from each other: family, model, L2 of a core. */
  kind: string
  cores: number
  memory: string
  system: string
  node: string
  instructions: string
  hugePages: string
}

const root = fileURLToPath(new URL('..', import.meta.url))

function tried<T>(f: () => T, otherwise: T): T {
  try {
    return f()
  } catch {
    return otherwise
  }
}

function kind(): string {
  const text = tried(() => readFileSync('/proc/cpuinfo', 'utf8'), '')
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(text)?.[1]
  const family = field('cpu family')
  const l2 = tried(
    () => readFileSync('/sys/devices/system/cpu/cpu0/cache/index2/size', 'utf8').trim(),
    'unknown',
  )
  return `${family ? `family ${family} model ${field('model')}, ` : ''}L2 ${l2}`
}

export function machine(): Machine {
  const pages = tried(() => readFileSync('/sys/kernel/mm/transparent_hugepage/enabled', 'utf8'), '')
  const description = openDevice('cpu').description.split(', ')
  return {
    processor: cpus()[0]?.model.trim() ?? 'unknown',
    kind: kind(),
    cores: availableParallelism(),
    memory: `${Math.round(totalmem() / 2 ** 30)} GiB`,
    system: `${process.platform} ${process.arch}`,
    node: process.versions.node,
    instructions: description.at(-2) ?? 'unknown',
    hugePages: /\[(\w+)\]/.exec(pages)?.[1] ?? 'unknown',
  }
}

/**
 * The commit of the checkout, with a plus if files differ from it; undefined where there is no git.
 */
export function commit(): string | undefined {
  const git = (...args: string[]) =>
    execFileSync('git', args, {
      cwd: root,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    }).trim()
  return tried(
    () =>
      git('rev-parse', '--short=10', 'HEAD') +
      (git('status', '--porcelain', '--', 'lib', 'native', 'bench', ':!bench/peers') ? '+' : ''),
    undefined,
  )
}

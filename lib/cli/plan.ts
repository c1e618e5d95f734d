// npx memory-layers plan: how large a published model is and what its training step moves.

import { parseArgs } from 'node:util'
import { MemoryLayersError } from '../errors.js'
import { links, type Plan, type PlanOptions, plan } from '../nn/plan.js'
import { type Preset, type PresetName, presets } from '../nn/presets.js'
import { nearestName } from '../options.js'
import { formatEntry, print, printError } from './text.js'

const usage = `Usage: npx memory-layers plan --preset NAME [options]

  --preset NAME     a published shape; without it, their names are printed
  --devices N       data parallel, the tables divided among them; default 1
  --batch N         sequences a device and step; default the preset's recipe
  --link NAME       ${Object.keys(links).join(', ')},
                    or bytes per second; default nvlink-4
  --optimizer NAME  adamw (default), adagrad, rowwiseAdagrad, sgd
  --json            the numbers as JSON`

export function printPlan(args: string[]): number {
  let values: ReturnType<typeof parse>
  try {
    values = parse(args)
  } catch (error) {
    return refuse((error as Error).message)
  }
  const name = values.preset
  if (name === undefined) {
    print(`Presets:\n\n${list()}\n\n${usage}`)
    return values.help ? 0 : 2
  }
  if (!Object.hasOwn(presets, name)) {
    const nearest = nearestName(name, Object.keys(presets))
    return refuse(`no preset "${name}".${nearest ? ` Did you mean "${nearest}"?` : ''}`)
  }
  const preset: Preset = presets[name as PresetName]
  try {
    const result = plan(preset, planOptions(values, preset))
    print(values.json ? JSON.stringify(result, undefined, 2) : describe(name, preset, result))
    return 0
  } catch (error) {
    if (error instanceof MemoryLayersError) return refuse(error.message)
    throw error
  }
}

function parse(args: string[]) {
  const text = { type: 'string' } as const
  const flag = { type: 'boolean' } as const
  const options = {
    preset: text,
    devices: text,
    batch: text,
    link: text,
    optimizer: text,
    json: flag,
    help: flag,
  }
  return parseArgs({ args, options }).values
}

function planOptions(values: ReturnType<typeof parse>, { recipe }: Preset): PlanOptions {
  const { devices, batch, link, optimizer } = values
  return {
    devices: devices === undefined ? 1 : Number(devices),
    batch: batch === undefined ? recipe.batch : Number(batch),
    ...(link !== undefined && { link: (Number(link) || link) as PlanOptions['link'] & {} }),
    ...(optimizer !== undefined && { optimizer: optimizer as PlanOptions['optimizer'] & {} }),
  }
}

function refuse(message: string): number {
  printError(`memory-layers plan: ${message}\n\n${usage}`)
  return 2
}

function list(): string {
  return Object.entries(presets)
    .map(([name, { source }]) => formatEntry(`  ${name}`, source, 26))
    .join('\n')
}

const entries = (numbers: object, format: (n: number) => string) =>
  Object.entries(numbers as Record<string, number>)
    .filter(([, n]) => n > 0)
    .map(([name, n]) => formatEntry(`  ${name}`, format(n), 18))
    .join('\n')

function describe(name: string, preset: Preset, p: Plan): string {
  const marks = preset.derived.length ? `; derived: ${preset.derived.join(', ')}` : ''
  const { bytesPerSecond, secondsPerStep } = p.link
  const link =
    p.bytesPerStep.total === 0
      ? []
      : [
          `Bytes per step that a device sends\n${entries(p.bytesPerStep, bytes)}`,
          `Over a link of ${bytes(bytesPerSecond)}/s: ${(1000 * secondsPerStep).toFixed(1)} ms`,
        ]
  return [
    formatEntry(name, `${preset.source}${marks}`, name.length + 2),
    `Parameters\n${entries(p.parameters, count)}`,
    `Multiply-adds per token, forward\n${entries(p.multiplyAddsPerToken, count)}`,
    `Bytes per device (activations: what forward saves)\n${entries(p.bytesPerDevice, bytes)}`,
    ...link,
    `Tokens per step: ${p.tokensPerStep.toLocaleString('en-US')}`,
  ].join('\n\n')
}

function count(n: number): string {
  const [unit, name] = n >= 1e9 ? [1e9, 'B'] : n >= 1e6 ? [1e6, 'M'] : [1, '']
  const digits = { maximumFractionDigits: unit === 1 ? 0 : 2 }
  return (n / unit).toLocaleString('en-US', digits) + name
}

function bytes(n: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, n)) / 3))
  return `${(n / 1000 ** power).toFixed(power === 0 ? 0 : 2)} ${units[power]}`
}

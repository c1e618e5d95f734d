// npx memory-layers plan: how large a published model is and what its training step moves.

import { parseArgs } from 'node:util'
import { MemoryLayersError } from '../errors.js'
import { type LinkUse, links, type Plan, type PlanOptions, plan, planScaling } from '../nn/plan.js'
import { type Preset, type PresetName, presets } from '../nn/presets.js'
import { nearestName } from '../options.js'
import { formatEntry, print, printError } from './text.js'

const usage = `Usage: npx memory-layers plan --preset NAME [options]

  --preset NAME     a published shape; without it, their names are printed
  --devices N       data parallel, the tables divided among them; default 1
  --columns N       devices that divide the tables' columns; default the best
  --batch N         sequences a device and step; default the preset's recipe
  --link NAME       of the devices of a machine, as a name or bytes per second;
                    default nvlink-4. Names: ${Object.keys(links).slice(0, 3).join(', ')},
                    ${Object.keys(links).slice(3).join(', ')}
  --network NAME    of a device to other machines; default infiniband-ndr
  --per-machine N   devices of a machine; default 8
  --memory N        bytes of a device, for the best columns; default 80e9
  --speed N         multiply-adds a second of a device; default 2e14
  --scaling         a line for each of 1, 2, 4 ... devices (default 1024)
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
    const options = planOptions(values, preset)
    const result = values.scaling ? planScaling(preset, options) : plan(preset, options)
    if (values.json) print(JSON.stringify(result, undefined, 2))
    else if (Array.isArray(result)) print(describeScaling(name, result))
    else print(describe(name, preset, result))
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
    columns: text,
    batch: text,
    link: text,
    network: text,
    'per-machine': text,
    memory: text,
    speed: text,
    optimizer: text,
    scaling: flag,
    json: flag,
    help: flag,
  }
  return parseArgs({ args, options }).values
}

function planOptions(values: ReturnType<typeof parse>, { recipe }: Preset): PlanOptions {
  const number = (text: string | undefined) => (text === undefined ? undefined : Number(text))
  const link = (text: string | undefined) => text && ((Number(text) || text) as PlanOptions['link'])
  const options = {
    devices: number(values.devices) ?? (values.scaling ? undefined : 1),
    columns: number(values.columns),
    batch: number(values.batch) ?? recipe.batch,
    link: link(values.link),
    network: link(values.network),
    perMachine: number(values['per-machine']),
    memory: number(values.memory),
    speed: number(values.speed),
    optimizer: values.optimizer,
  }
  const given = Object.entries(options).filter(([, value]) => value !== undefined)
  return Object.fromEntries(given) as PlanOptions
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
    .map(([name, n]) => formatEntry(`  ${name}`, format(n), 22))
    .join('\n')

function describe(name: string, preset: Preset, p: Plan): string {
  const marks = preset.derived.length ? `; derived: ${preset.derived.join(', ')}` : ''
  const { columns, replicas } = p.grid
  const { compute, collectives, efficiency } = p.seconds
  const each = p.collectives.map((c) => [c.name, c.bytes])
  const sent = { ...Object.fromEntries(each), total: p.bytesPerStep }
  const parallel =
    p.bytesPerStep === 0
      ? []
      : [
          `Grid: ${columns} devices divide the columns of the tables, ${replicas} such groups`,
          `Bytes per step that a device sends\n${entries(sent, bytes)}`,
          describeLink('devices of its machine', p.link),
          describeLink('other machines', p.network),
          `Seconds of a step\n${entries({ compute, collectives }, seconds)}`,
          `Efficiency without overlap: ${percent(efficiency)}`,
        ]
  return [
    formatEntry(name, `${preset.source}${marks}`, name.length + 2),
    `Parameters\n${entries(p.parameters, count)}`,
    `Multiply-adds per token, forward\n${entries(p.multiplyAddsPerToken, count)}`,
    `Bytes per device (activations: what forward saves)\n${entries(p.bytesPerDevice, bytes)}`,
    ...(p.fits ? [] : ['More than --memory has.']),
    ...parallel,
    `Tokens per step: ${p.tokensPerStep.toLocaleString('en-US')}`,
  ].join('\n\n')
}

function describeLink(to: string, { bytesPerSecond, bytesPerStep, secondsPerStep }: LinkUse) {
  const time = `${bytes(bytesPerStep)} over ${bytes(bytesPerSecond)}/s: ${seconds(secondsPerStep)}`
  return `To ${to}: ${time}`
}

function describeScaling(name: string, plans: readonly Plan[]): string {
  const titles = ['devices', 'columns', 'bytes each', 'sent a step', 'compute', 'exchange', 'share']
  const rows = plans.map((p) => [
    String(p.grid.columns * p.grid.replicas),
    String(p.grid.columns),
    `${bytes(p.bytesPerDevice.total)}${p.fits ? '' : '!'}`,
    bytes(p.bytesPerStep),
    seconds(p.seconds.compute),
    seconds(p.seconds.collectives),
    percent(p.seconds.efficiency),
  ])
  const line = (cells: string[]) => cells.map((cell) => cell.padStart(11)).join('')
  const over = plans.some(({ fits }) => !fits) ? ['', '! more than --memory has'] : []
  return [`${name}, without overlap`, '', line(titles), ...rows.map(line), ...over].join('\n')
}

const percent = (share: number) => `${(100 * share).toFixed(1)} %`
const seconds = (s: number) => (s < 1 ? `${(1000 * s).toFixed(1)} ms` : `${s.toFixed(2)} s`)

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

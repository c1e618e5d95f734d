// How large a model is and what a training step moves, before anything is allocated.

import { isObject } from '../describe.js'
import { fail } from '../errors.js'
import { checkInteger } from '../options.js'
import {
  countedSlots,
  type MultiplyAdds,
  multiplyAdds,
  type ParameterSize,
  parameterSizes,
  savedTensors,
} from './model-sizes.js'
import {
  bytesByLink,
  type Collective,
  collectives,
  type Grid,
  gridsOf,
  type TableReads,
  tableReads,
} from './plan-collectives.js'
import { type CheckedPlan, checkPlan, maxDevices, type PlanOptions } from './plan-options.js'
import type { Preset } from './presets.js'

import {
  checkTransformerOptions,
  type TransformerConfig,
  type TransformerOptions,
} from './transformer-config.js'

/** A link, what a device sends over it in a step, and how long that takes. */
export interface LinkUse {
  /** Its rate, one way. */
  bytesPerSecond: number
  /** What a device sends over it in a step. */
  bytesPerStep: number
  /** The time that this takes. */
  secondsPerStep: number
}

/** A kind of collective, over a step: it uses both links at once. */
export interface CollectiveCost extends Collective {
  /** Over a step. */
  seconds: number
}

/** What {@link plan} gives. */
export interface Plan {
  /** Numbers that are trained: of memory tables, and of all the rest with the embedding. */
  parameters: { dense: number; tables: number; total: number }
  /** Of one token, forward, at the middle of a full context; a training step does three times. */
  multiplyAddsPerToken: MultiplyAdds & { total: number }
  /**
   * On each device. Tables: rows, what 16-bit ones need beside them, and counters. Activations:
   * what forward saves for backward; the gradients that backward has on its way are not counted.
   */
  bytesPerDevice: {
    weights: number
    states: number
    gradients: number
    activations: number
    tables: number
    total: number
  }
  /** Whether they are below `memory`. */
  fits: boolean
  /** How the devices divide the tables. */
  grid: Grid
  /** What a device sends in a step; none for one device. */
  collectives: CollectiveCost[]
  /** What a device sends in a step; 0 for one device. */
  bytesPerStep: number
  /** Between the devices of a machine. */
  link: LinkUse
  /** Between machines. */
  network: LinkUse
  /**
   * Of a step: what its multiply-adds take, what its collectives take one after the other, and the
   * share of the first in both. A run whose collectives overlap its products does better.
   */
  seconds: { compute: number; collectives: number; efficiency: number }
  /** Of all devices. */
  tokensPerStep: number
}

export { type Link, links, type PlanOptions } from './plan-options.js'

const where = 'plan'
const dtypeBytes = { float32: 4, bfloat16: 2, float16: 2 } as const
/** Of a 16-bit table that is trained: docs/architecture.md. */
const exactBytes = { float32: 0, bfloat16: 2, float16: 4 } as const

/**
 * Sizes of a decoder and of its training step, from its options. Nothing is allocated.
 *
 * ```ts
 * import { plan, presets } from 'memory-layers/nn'
 *
 * const { parameters, bytesPerDevice } = plan(presets['memory-plus-1.3b-64m'], { devices: 8 })
 * console.log(parameters, bytesPerDevice)
 * ```
 * @param config options of a `Transformer`, or a preset
 * @throws ERR_OPTION, ERR_VALUE
 */
export function plan(config: TransformerOptions | Preset, options?: PlanOptions): Plan {
  const model = isObject(config) && 'config' in config ? config.config : config
  const c = checkTransformerOptions(where, model)
  const checked = checkPlan(options)
  const plans = gridsFor(c, checked).map((grid) => planOf(c, checked, grid))
  const fitting = plans.filter(({ fits }) => fits)
  const bytes = (p: Plan) => p.bytesPerDevice.total
  // Where none fits, the smallest says by how much.
  if (fitting.length === 0) return plans.reduce((a, b) => (bytes(b) < bytes(a) ? b : a))
  const time = (p: Plan) => p.seconds.collectives
  return fitting.reduce((a, b) => (time(b) < time(a) ? b : a))
}

/**
 * Plans for 1, 2, 4 … `devices` devices (default 1,024), each with its own best grid.
 * @param config options of a `Transformer`, or a preset
 * @throws ERR_OPTION, ERR_VALUE
 */
export function planScaling(
  config: TransformerOptions | Preset,
  options?: Omit<PlanOptions, 'columns'>,
): Plan[] {
  const { devices = 1024, ...rest } = { ...options }
  const most = checkInteger('planScaling', 'devices', devices, 1, maxDevices)
  const counts = Array.from({ length: Math.floor(Math.log2(most)) + 1 }, (_, i) => 2 ** i)
  return counts.map((devices) => plan(config, { ...rest, devices }))
}

/** Those that the options allow: the narrowest table has columns for each device. */
function gridsFor(c: TransformerConfig, { devices, columns }: CheckedPlan): Grid[] {
  const widths = parameterSizes(c).flatMap(({ kind, shape }) =>
    kind === 'table' ? [shape[1] ?? 1] : [],
  )
  const narrowest = Math.min(...widths)
  if (widths.length === 0) return [{ columns: columns ?? 1, replicas: devices / (columns ?? 1) }]
  if (columns === undefined) return gridsOf(devices, narrowest)
  if (columns > narrowest)
    fail('ERR_VALUE', where, 'columns', `be at most ${narrowest}, a table's width`, columns)
  return [{ columns, replicas: devices / columns }]
}

function planOf(c: TransformerConfig, o: CheckedPlan, grid: Grid): Plan {
  const sizes = parameterSizes(c)
  const count = (kinds: ParameterSize['kind'][]) =>
    sizes.filter(({ kind }) => kinds.includes(kind)).reduce((sum, p) => sum + elements(p), 0)
  const parameters = { dense: count(['dense', 'embedding', 'tied']), tables: count(['table']) }
  const products = multiplyAdds(c)
  const tokens = o.batch * c.contextLength
  const reads = tableReads(c, tokens)
  const bytes = {
    ...stateBytes(sizes, grid.columns, o.optimizer),
    activations: savedTensors(c, tokens).reduce((sum, numbers) => sum + allocated(4 * numbers), 0),
  }
  for (const slots of countedSlots(c)) bytes.tables += allocated(4 * slots)
  bytes.gradients += queuedBytes(reads, tokens, grid)
  const total = sum(bytes)
  const costs = collectives(count(['dense', 'tied']), reads, tokens, grid).map((collective) => ({
    ...collective,
    seconds: secondsOf(bytesByLink(collective, grid, o), o),
  }))
  const compute = (3 * sum(products) * tokens) / o.speed
  const exchange = costs.reduce((sum, { seconds }) => sum + seconds, 0)
  const [within, between] = (['within', 'between'] as const).map((link) =>
    costs.reduce((sum, cost) => sum + bytesByLink(cost, grid, o)[link], 0),
  )
  return {
    parameters: { ...parameters, total: parameters.dense + parameters.tables },
    multiplyAddsPerToken: { ...products, total: sum(products) },
    bytesPerDevice: { ...bytes, total },
    fits: total <= o.memory,
    grid,
    collectives: costs,
    bytesPerStep: within! + between!,
    link: linkUse(o.link, within!),
    network: linkUse(o.network, between!),
    seconds: { compute, collectives: exchange, efficiency: compute / (compute + exchange) },
    tokensPerStep: tokens * o.devices,
  }
}

function secondsOf(
  { within, between }: { within: number; between: number },
  { link, network }: CheckedPlan,
): number {
  return Math.max(within / link, between / network)
}

function linkUse(bytesPerSecond: number, bytesPerStep: number): LinkUse {
  return { bytesPerSecond, bytesPerStep, secondsPerStep: bytesPerStep / bytesPerSecond }
}

/** Indices, weights, and the gradient of what was read, of all tokens whose reads a device has. */
function queuedBytes(reads: readonly TableReads[], tokens: number, grid: Grid): number {
  const all = grid.columns * grid.replicas
  let bytes = 0
  for (const { kind, entries, inputDim, width } of reads) {
    const widths = kind === 'peer' ? [inputDim, width] : [width]
    for (const width of widths) {
      const columns = kind === 'embedding' ? width : Math.ceil(width / grid.columns)
      bytes += 2 * allocated(4 * all * entries) + allocated(4 * all * tokens * columns)
    }
  }
  return bytes
}

function sum(numbers: object): number {
  return Object.values(numbers as Record<string, number>).reduce((a, b) => a + b, 0)
}

function elements({ shape }: ParameterSize): number {
  return shape.reduce((a, b) => a * b, 1)
}

/** What the allocator takes for a tensor (native/device/allocator.cpp). */
function allocated(bytes: number): number {
  const smallest = 256
  const hugePage = 2 ** 21
  if (bytes <= smallest) return smallest
  const step = bytes >= 4 * hugePage ? hugePage : 2 ** (Math.floor(Math.log2(bytes - 1)) - 3)
  return Math.ceil(bytes / step) * step
}

function stateBytes(
  sizes: readonly ParameterSize[],
  columns: number,
  rule: NonNullable<PlanOptions['optimizer']>,
): Record<'weights' | 'states' | 'gradients' | 'tables', number> {
  const bytes = { weights: 0, states: allocated(4), gradients: 0, tables: 0 }
  for (const p of sizes) {
    const [rows = 1, ...row] = p.shape
    const width = row.reduce((a, b) => a * b, 1) / (p.kind === 'table' ? columns : 1)
    const count = rows * Math.ceil(width)
    const state = allocated(4 * count)
    if (rule === 'adamw') bytes.states += 2 * state
    if (rule === 'adagrad') bytes.states += state
    if (rule === 'rowwiseAdagrad') bytes.states += p.kind === 'dense' ? state : allocated(4 * rows)
    if (p.kind !== 'table') bytes.weights += allocated(4 * count)
    if (p.kind === 'dense' || p.kind === 'tied') bytes.gradients += allocated(4 * count)
    if (p.kind === 'table') {
      bytes.tables += allocated(dtypeBytes[p.dtype] * count)
      if (exactBytes[p.dtype] > 0) bytes.tables += allocated(exactBytes[p.dtype] * count)
    }
  }
  return bytes
}

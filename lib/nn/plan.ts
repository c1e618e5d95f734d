// How large a model is and what a training step moves, before anything is allocated.

import { isObject } from '../describe.js'
import { fail } from '../errors.js'
import { checkChoice, checkInteger, checkNumber, checkOptions } from '../options.js'
import {
  countedSlots,
  type MultiplyAdds,
  multiplyAdds,
  type ParameterSize,
  parameterSizes,
  savedTensors,
} from './model-sizes.js'
import type { Preset } from './presets.js'
import { checkTransformerOptions, type TransformerOptions } from './transformer-config.js'

/** Bytes per second of one direction of a device's link. */
export const links = {
  'pcie-4': 32e9,
  'pcie-5': 64e9,
  'nvlink-3': 300e9,
  'nvlink-4': 450e9,
  'nvlink-5': 900e9,
  'ethernet-100g': 12.5e9,
} as const

/** Options of {@link plan}. */
export interface PlanOptions {
  /** Data parallel: each holds all dense parameters, and some columns of the tables. Default 1. */
  devices?: number
  /** Between devices: a name, or bytes per second. Default 'nvlink-4'. */
  link?: keyof typeof links | number
  /** Sequences of contextLength tokens a device and step. Default 1. */
  batch?: number
  /** Of states. Default 'adamw'. */
  optimizer?: 'adamw' | 'adagrad' | 'rowwiseAdagrad' | 'sgd'
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
  /** What a device sends in a step; 0 for one device. */
  bytesPerStep: { gradients: number; lookups: number; rows: number; total: number }
  /** The link, and how long it takes a step's bytes. */
  link: { bytesPerSecond: number; secondsPerStep: number }
  /** Of all devices. */
  tokensPerStep: number
}

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
  const names = ['devices', 'link', 'batch', 'optimizer']
  const checked = checkOptions(where, options, names)
  const model = isObject(config) && 'config' in config ? config.config : config
  const c = checkTransformerOptions(where, model)
  const devices = checkInteger(where, 'devices', checked.devices ?? 1, 1, 2 ** 20)
  const batch = checkInteger(where, 'batch', checked.batch ?? 1)
  const optimizers = ['adamw', 'adagrad', 'rowwiseAdagrad', 'sgd'] as const
  const rule = checkChoice(where, 'optimizer', checked.optimizer, optimizers)
  const bytesPerSecond = checkLink(checked.link ?? 'nvlink-4')
  const sizes = parameterSizes(c)
  const count = (kinds: ParameterSize['kind'][]) =>
    sizes.filter(({ kind }) => kinds.includes(kind)).reduce((sum, p) => sum + elements(p), 0)
  const parameters = { dense: count(['dense', 'embedding', 'tied']), tables: count(['table']) }
  const products = multiplyAdds(c)
  const tokens = batch * c.contextLength
  const reads = readsOf(c, tokens)
  const bytes = {
    ...stateBytes(sizes, devices, rule),
    activations: savedTensors(c, tokens).reduce((sum, numbers) => sum + allocated(4 * numbers), 0),
  }
  for (const slots of countedSlots(c)) bytes.tables += allocated(4 * slots)
  // indices, weights, and the gradient of what was read
  for (const { entries, width } of reads)
    bytes.gradients += 2 * allocated(4 * entries) + allocated(4 * tokens * width)
  const step = stepBytes(parameters.dense, reads, tokens, devices)
  return {
    parameters: { ...parameters, total: parameters.dense + parameters.tables },
    multiplyAddsPerToken: { ...products, total: sum(products) },
    bytesPerDevice: { ...bytes, total: sum(bytes) },
    bytesPerStep: step,
    link: { bytesPerSecond, secondsPerStep: step.total / bytesPerSecond },
    tokensPerStep: tokens * devices,
  }
}

function sum(numbers: object): number {
  return Object.values(numbers as Record<string, number>).reduce((a, b) => a + b, 0)
}

function elements({ shape }: ParameterSize): number {
  return shape.reduce((a, b) => a * b, 1)
}

function checkLink(link: unknown): number {
  if (typeof link === 'number') {
    const rate = checkNumber(where, 'link', link, 0)
    if (rate === 0) fail('ERR_VALUE', where, 'link', 'be above 0 bytes per second', link)
    return rate
  }
  const names = Object.keys(links) as [keyof typeof links, ...(keyof typeof links)[]]
  return links[checkChoice(where, 'link', link, names)]
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
  devices: number,
  rule: NonNullable<PlanOptions['optimizer']>,
): Record<'weights' | 'states' | 'gradients' | 'tables', number> {
  const bytes = { weights: 0, states: allocated(4), gradients: 0, tables: 0 }
  for (const p of sizes) {
    const [rows = 1, ...row] = p.shape
    // The columns of memory tables are divided among the devices.
    const width = row.reduce((a, b) => a * b, 1) / (p.kind === 'table' ? devices : 1)
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

/** The reads of tables in a step of one device: entries of its bags, and the width of a row. */
interface Reads {
  entries: number
  width: number
  memory: boolean
}

function readsOf(c: ReturnType<typeof checkTransformerOptions>, tokens: number): Reads[] {
  const embedding = { entries: tokens, width: c.dim, memory: false }
  return [
    embedding,
    ...c.blocks.flatMap(({ feedForward: f, memory: m }): Reads[] => {
      const peer = f.kind === 'peer' && {
        entries: tokens * f.heads * f.knn,
        width: c.dim,
        memory: true,
      }
      const memory = m && { entries: tokens * m.heads * m.knn, width: m.valueDim, memory: true }
      return [...(peer ? [peer, peer] : []), ...(memory ? [memory] : [])]
    }),
  ]
}

/**
 * Of one device: a ring sums the dense gradients; of each memory layer, indices and weights go to
 * all others, partial rows and their gradients to the devices whose tokens they are of, and the
 * gradients of the weights are summed.
 */
function stepBytes(
  dense: number,
  reads: readonly Reads[],
  tokens: number,
  devices: number,
): Plan['bytesPerStep'] {
  const others = devices - 1
  const share = others / devices
  const gradients = 2 * share * 4 * dense
  let lookups = 0
  let rows = 0
  for (const { entries, width, memory } of reads) {
    if (!memory) continue
    lookups += others * entries * 12
    rows += 2 * share * 4 * tokens * width
  }
  return { gradients, lookups, rows, total: gradients + lookups + rows }
}

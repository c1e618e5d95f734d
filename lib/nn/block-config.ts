// What stands between the attention of a layer and the next: the options of it, and their check.

import { fail, isArray } from '../errors.js'
import {
  checkBoolean,
  checkChoice,
  checkFloat32,
  checkInteger,
  checkNumber,
  checkOptions,
  checkProduct,
} from '../options.js'
import { checkQuery } from '../query-options.js'

/** Of the lookup of a memory or PEER layer. */
export interface LookupSpec {
  /** Half-keys per half, n; the table has n*n slots. Default 1024. */
  nKeys?: number
  /** Lookups per token. Default 4. */
  heads?: number
  /** Slots read per head, at most nKeys. Default 32. */
  knn?: number
  /** Query width per head; even. Default 512. */
  keyDim?: number
}

/** Of a memory layer; names and defaults as of `MemoryLayer`. */
export interface MemorySpec extends LookupSpec {
  /** Width of a value row. Default dim. */
  valueDim?: number
  /** 'silu' (default) is Memory+. */
  gate?: 'silu' | 'none'
  /** Multiplies the output by a sigmoid of the input. Default false. */
  outputGate?: boolean
  /** Of the value table. Default 'float32'. */
  dtype?: 'float32' | 'bfloat16' | 'float16'
}

/** What stands between the attention of a layer and the next. */
export type FeedForwardSpec =
  /** `W2 (silu(W1 x) * W3 x)`, without biases. hiddenDim: 2/3 of 4 dim, up to a multiple of 256. */
  | { kind: 'swiglu'; hiddenDim?: number }
  /** `W2 gelu(W1 x + b1) + b2`. hiddenDim: 4 dim. */
  | { kind: 'gelu'; hiddenDim?: number }
  | MoeSpec
  | ({ kind: 'peer'; activation?: 'gelu' | 'relu' } & LookupSpec)
  | ({ kind: 'memory' } & MemorySpec)
  | { kind: 'none' }

/** A mixture of experts, each as `gelu` has it. */
export interface MoeSpec {
  /** A mixture of experts. */
  kind: 'moe'
  /** Number of experts. */
  experts: number
  /** Of each expert. Default 4 dim. */
  hiddenDim?: number
  /** Who chooses whom: each token its experts (default), or each expert its tokens. */
  routing?: 'token' | 'expert'
  /** Experts that read a token: exactly, or on average where they choose. Default 2. */
  expertsPerToken?: number
  /** Weight of the load-balancing loss of 'token'. Default 0.01. */
  balance?: number
}

/** Memory layers in place of the feed-forwards of some layers. */
export interface MemoryPlacement extends MemorySpec {
  /** Numbers of layers, from 0. */
  layers: readonly number[]
  /** One table for all of them. Default true. */
  shared?: boolean
  /** The feed-forwards stay, and the memory's output is added to theirs. Default false. */
  beside?: boolean
}

/** A dense feed-forward, experts, or a PEER layer, with its defaults. */
export type FeedForwardConfig =
  | { kind: 'swiglu' | 'gelu'; hiddenDim: number }
  | Required<MoeSpec>
  | ({ kind: 'peer'; activation: 'gelu' | 'relu' } & Required<LookupSpec>)
  | { kind: 'none' }

/** A memory layer with its defaults; shared: its table is that of all layers that say so. */
export type MemoryConfig = Required<MemorySpec> & { shared: boolean }

/** What follows the attention of one layer: either, both, or nothing. */
export interface BlockConfig {
  /** `none` where memory stands in its place. */
  feedForward: FeedForwardConfig
  /** undefined: none. */
  memory: MemoryConfig | undefined
}

const lookupNames = ['nKeys', 'heads', 'knn', 'keyDim'] as const
const memoryNames = [...lookupNames, 'valueDim', 'gate', 'outputGate', 'dtype'] as const
const kinds = ['swiglu', 'gelu', 'moe', 'peer', 'memory', 'none'] as const
const specNames = [
  'kind',
  'hiddenDim',
  'experts',
  'routing',
  'expertsPerToken',
  'balance',
  'activation',
  ...memoryNames,
]
const maxExperts = 4096
const roundUpTo = 256 // what the hidden width of swiglu is a multiple of

interface BlockOptions {
  feedForward?: FeedForwardSpec | ((layer: number) => FeedForwardSpec | undefined)
  memory?: MemoryPlacement
}

/** The blocks of a decoder. @throws ERR_OPTION, ERR_VALUE */
export function checkBlocks(
  where: string,
  dim: number,
  layers: number,
  { feedForward, memory }: BlockOptions,
): BlockConfig[] {
  const placed = memory === undefined ? undefined : checkPlacement(where, dim, layers, memory)
  return Array.from({ length: layers }, (_, layer) => {
    const perLayer = typeof feedForward === 'function'
    const name = perLayer ? `feedForward(${layer})` : 'feedForward'
    const spec = (perLayer ? feedForward(layer) : feedForward) ?? { kind: 'swiglu' }
    const block = checkSpec(where, name, dim, spec)
    if (!placed?.layers.has(layer)) return block
    // A spec for all layers is replaced where the memory stands; one for this layer contradicts it.
    const contradicts = perLayer && ['moe', 'peer', 'memory'].includes(spec.kind)
    if (block.memory || (contradicts && !placed.beside)) {
      const hint = `Leave ${layer} out of memory.layers, or return undefined for it.`
      const wanted = `not name a layer of memory.layers: ${[...placed.layers].join(', ')}`
      fail('ERR_OPTION', where, name, wanted, `kind '${spec.kind}'`, hint)
    }
    return {
      feedForward: placed.beside ? block.feedForward : { kind: 'none' },
      memory: placed.config,
    }
  })
}

function checkPlacement(
  where: string,
  dim: number,
  layers: number,
  memory: MemoryPlacement,
): { layers: Set<number>; beside: boolean; config: MemoryConfig } {
  const names = [...memoryNames, 'layers', 'shared', 'beside']
  const checked = checkOptions(`${where}: memory`, memory, names)
  const list: unknown = checked.layers
  const middle = Math.floor(layers / 2)
  if (!isArray(list) || list.length === 0) {
    const requirement = 'be an array of the numbers of layers'
    fail('ERR_VALUE', where, 'memory.layers', requirement, list, `[${middle}] would do.`)
  }
  const numbers = new Set<number>()
  for (let i = 0; i < list.length; i++) {
    const layer = list[i]
    const name = `memory.layers[${i}]`
    const isLayer = typeof layer === 'number' && Number.isInteger(layer)
    if (!isLayer || layer < 0 || layer >= layers) {
      const requirement = `be a layer, from 0 to ${layers - 1}`
      fail('ERR_VALUE', where, name, requirement, layer, `${middle} would do.`)
    }
    if (numbers.has(layer)) fail('ERR_VALUE', where, name, 'be named once', layer)
    numbers.add(layer)
  }
  return {
    layers: numbers,
    beside: checkBoolean(where, 'memory.beside', checked.beside ?? false),
    config: {
      ...checkMemory(where, 'memory', dim, checked),
      shared: checkBoolean(where, 'memory.shared', checked.shared ?? true),
    },
  }
}

function checkSpec(where: string, name: string, dim: number, spec: FeedForwardSpec): BlockConfig {
  const kind = checkKind(where, name, spec)
  const none = { kind: 'none' } as const
  const named = `${where}: ${name}`
  switch (kind) {
    case 'none':
      checkOptions(named, spec, ['kind'])
      return { feedForward: none, memory: undefined }
    case 'memory': {
      const memory = checkOptions(named, spec as MemorySpec, ['kind', ...memoryNames])
      const config = { ...checkMemory(where, name, dim, memory), shared: false }
      return { feedForward: none, memory: config }
    }
    case 'peer': {
      const names = ['kind', 'activation', ...lookupNames]
      const peer = checkOptions(named, spec as { kind: 'peer' } & LookupSpec, names)
      const { activation } = peer as { activation?: unknown }
      const chosen = checkChoice(where, `${name}.activation`, activation, ['gelu', 'relu'])
      const lookup = checkLookup(where, name, dim, peer)
      return { feedForward: { kind, activation: chosen, ...lookup }, memory: undefined }
    }
    case 'moe':
      return { feedForward: checkExperts(where, name, dim, spec as MoeSpec), memory: undefined }
    default: {
      const dense = checkOptions(named, spec as { hiddenDim?: number }, ['kind', 'hiddenDim'])
      const standard = kind === 'gelu' ? 4 * dim : swigluWidth(dim)
      const hiddenDim = checkInteger(where, `${name}.hiddenDim`, dense.hiddenDim ?? standard)
      checkProduct(where, { dim, hiddenDim })
      return { feedForward: { kind, hiddenDim }, memory: undefined }
    }
  }
}

function checkKind(where: string, name: string, spec: unknown): (typeof kinds)[number] {
  if (typeof spec === 'string') {
    const hint = `{ kind: '${kinds.find((kind) => kind === spec) ?? 'swiglu'}' } would do.`
    fail('ERR_VALUE', where, name, 'be an object with a kind', `'${spec}'`, hint)
  }
  const { kind } = checkOptions(`${where}: ${name}`, spec as { kind?: unknown }, specNames)
  if (kind === undefined)
    fail('ERR_VALUE', where, `${name}.kind`, 'be given', kind, "'swiglu' would do.")
  return checkChoice(where, `${name}.kind`, kind, kinds)
}

/** 2/3 of 4 dim, as three products are to cost what two do, up to a multiple of 256. */
function swigluWidth(dim: number): number {
  return Math.ceil(Math.floor((8 * dim) / 3) / roundUpTo) * roundUpTo
}

function checkExperts(where: string, name: string, dim: number, spec: MoeSpec): Required<MoeSpec> {
  const names = ['kind', 'experts', 'hiddenDim', 'routing', 'expertsPerToken', 'balance']
  const checked = checkOptions(`${where}: ${name}`, spec, names)
  const experts = checkInteger(where, `${name}.experts`, checked.experts, 1, maxExperts)
  const hiddenDim = checkInteger(where, `${name}.hiddenDim`, checked.hiddenDim ?? 4 * dim)
  checkProduct(where, { experts, dim, hiddenDim })
  const routing = checkChoice(where, `${name}.routing`, checked.routing, ['token', 'expert'])
  const perToken = `${name}.expertsPerToken`
  const count = checked.expertsPerToken ?? Math.min(2, experts)
  const expertsPerToken =
    routing === 'token'
      ? checkInteger(where, perToken, count, 1, experts)
      : checkNumber(where, perToken, count, 0)
  const balance = checkFloat32(where, `${name}.balance`, checked.balance ?? 0.01, 0)
  return { kind: 'moe', experts, hiddenDim, routing, expertsPerToken, balance }
}

function checkLookup(
  where: string,
  name: string,
  dim: number,
  { nKeys, heads, knn, keyDim }: LookupSpec,
): Required<LookupSpec> {
  const query = checkQuery(`${where}: ${name}`, { inputDim: dim, nKeys, heads, knn, keyDim })
  if (query.knn > query.nKeys) {
    const hint = `knn ${Math.min(32, query.nKeys)} would do.`
    fail('ERR_VALUE', where, `${name}.knn`, `be at most nKeys ${query.nKeys}`, query.knn, hint)
  }
  return { nKeys: query.nKeys, heads: query.heads, knn: query.knn, keyDim: query.keyDim }
}

function checkMemory(
  where: string,
  name: string,
  dim: number,
  options: MemorySpec,
): Required<MemorySpec> {
  const lookup = checkLookup(where, name, dim, options)
  const { valueDim, gate, outputGate, dtype } = options
  const width = checkInteger(where, `${name}.valueDim`, valueDim ?? dim, 1, 2 ** 24)
  checkProduct(where, { slots: lookup.nKeys ** 2, valueDim: width })
  return {
    ...lookup,
    valueDim: width,
    gate: checkChoice(where, `${name}.gate`, gate, ['silu', 'none']),
    outputGate: checkBoolean(where, `${name}.outputGate`, outputGate ?? false),
    dtype: checkChoice(where, `${name}.dtype`, dtype, ['float32', 'bfloat16', 'float16']),
  }
}

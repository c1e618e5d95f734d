// What the devices of a training step send each other, collective by collective
// (docs/guides/distributed.md has the formulas).

import type { TransformerConfig } from './transformer-config.js'

/**
 * Devices in a grid: `columns` of them divide the columns of the memory tables, and `replicas` of
 * such groups hold the same and see other tokens.
 */
export interface Grid {
  /** Devices that divide the columns of a table among them. */
  columns: number
  /** Groups of such devices. */
  replicas: number
}

/** What a device sends in a step by one kind of collective. */
export interface Collective {
  /** What travels. */
  name: string
  /** Which devices take part: those of its columns, those of its replicas, or all. */
  group: 'columns' | 'replicas' | 'world'
  /** Over a step. */
  bytes: number
}

/** How devices are connected: `perMachine` by fast links, and machines by slower ones. */
export interface Topology {
  devices: number
  perMachine: number
}

/** The tables that a step reads, of each layer. */
export interface TableReads {
  kind: 'embedding' | 'memory' | 'peer'
  /** Of a device's bags. */
  entries: number
  /** Of what a PEER layer reads; of others 0. */
  inputDim: number
  width: number
}

export function tableReads(c: TransformerConfig, tokens: number): TableReads[] {
  const embedding = { kind: 'embedding', entries: tokens, inputDim: 0, width: c.dim } as const
  return [
    embedding,
    ...c.blocks.flatMap(({ feedForward: f, memory: m }): TableReads[] => {
      const peer = f.kind === 'peer' && {
        kind: 'peer' as const,
        entries: tokens * f.heads * f.knn,
        inputDim: c.dim,
        width: c.dim,
      }
      const memory = m && {
        kind: 'memory' as const,
        entries: tokens * m.heads * m.knn,
        inputDim: 0,
        width: m.valueDim,
      }
      return [...(peer ? [peer] : []), ...(memory ? [memory] : [])]
    }),
  ]
}

/**
 * Of one device of a grid, which holds `tokens` tokens and has `dense` numbers in dense gradients.
 * Bytes are exact where the columns and the dense numbers divide evenly.
 */
export function collectives(
  dense: number,
  reads: readonly TableReads[],
  tokens: number,
  grid: Grid,
): Collective[] {
  const all = grid.columns * grid.replicas
  const list: Collective[] = [
    { name: 'dense gradients', group: 'world', bytes: ((2 * (all - 1)) / all) * 4 * dense },
  ]
  for (const read of reads) {
    if (read.kind === 'embedding') {
      const bytes = (all - 1) * (8 * read.entries + 4 * tokens * read.width)
      list.push({ name: 'embedding reads', group: 'world', bytes })
      continue
    }
    list.push(...columnCollectives(read, tokens, grid.columns))
    list.push(...replicaCollectives(read, tokens, grid))
  }
  return merged(list).filter(({ bytes }) => bytes > 0)
}

/** Sharded by columns: kernels of every device see the tokens of all, and some columns of each. */
function columnCollectives(read: TableReads, tokens: number, columns: number): Collective[] {
  const others = columns - 1
  const entries = 4 * others * read.entries
  const rows = (width: number) => (others / columns) * 4 * tokens * width
  const group = 'columns' as const
  if (read.kind === 'memory')
    return [
      { name: 'indices and weights', group, bytes: 2 * entries },
      { name: 'outputs', group, bytes: rows(read.width) },
      { name: 'output gradients', group, bytes: rows(read.width) },
      { name: 'weight gradients', group, bytes: entries },
    ]
  return [
    // indices; expert outputs there, back, and their weights; forward and backward
    { name: 'indices and weights', group, bytes: 2 * entries },
    { name: 'expert sums', group, bytes: entries },
    { name: 'inputs', group, bytes: rows(read.inputDim) },
    { name: 'outputs', group, bytes: rows(read.width) },
    { name: 'output gradients', group, bytes: rows(read.width) },
    { name: 'weight gradients', group, bytes: 2 * entries },
    { name: 'input gradients', group, bytes: rows(read.inputDim) },
  ]
}

/** What a group has read goes to its replicas: never a gradient of every row. */
function replicaCollectives(
  { entries, inputDim, width }: TableReads,
  tokens: number,
  { columns, replicas }: Grid,
): Collective[] {
  const tables = inputDim > 0 ? 2 : 1
  const bags = tables * 8 * columns * entries
  const bytes = (replicas - 1) * (bags + 4 * tokens * (inputDim + width))
  return [{ name: 'table reads', group: 'replicas', bytes }]
}

function merged(list: readonly Collective[]): Collective[] {
  const byName = new Map<string, Collective>()
  for (const c of list) {
    const before = byName.get(c.name)
    byName.set(c.name, { ...c, bytes: c.bytes + (before?.bytes ?? 0) })
  }
  return [...byName.values()]
}

/** What a collective sends to devices of its own machine, and to those of others. */
export function bytesByLink(
  { group, bytes }: Collective,
  grid: Grid,
  { devices, perMachine }: Topology,
): { within: number; between: number } {
  const members = group === 'world' ? devices : grid[group]
  // Neighbours divide the columns: the devices of a machine are in as few groups as can be.
  const near =
    group === 'replicas'
      ? Math.max(1, Math.floor(perMachine / grid.columns))
      : Math.min(members, perMachine)
  const within = members > 1 ? (bytes * (Math.min(near, members) - 1)) / (members - 1) : 0
  return { within, between: bytes - within }
}

/** Every grid of so many devices whose tables have columns for all. */
export function gridsOf(devices: number, narrowest: number): Grid[] {
  const grids: Grid[] = []
  for (let columns = 1; columns <= Math.min(devices, narrowest); columns++)
    if (devices % columns === 0) grids.push({ columns, replicas: devices / columns })
  return grids
}

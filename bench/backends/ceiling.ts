// What the machine can do at best: the same rows, only read, or only read and written;
// multiply-adds in registers.

import { type Ceilings, type Level, loadCeilings, type Memory } from '../ceilings.js'
import { rowBytesOf } from '../data.js'
import { type Contender, median } from '../harness.js'
import type {
  Backend,
  BagProblem,
  GemmProblem,
  LookupProblem,
  Rule,
  TokenProblem,
  UpdateProblem,
} from './backend.js'
import type { Ours } from './ours.js'

/** Tables that a rule updates; row-wise Adagrad keeps one number a row besides. */
export const tablesOf: Record<Rule, number> = { sgd: 1, rowwiseAdagrad: 1, adamw: 3 }
/** Between two of them: tables a power of two apart would share the sets of the cache. */
const gap = 2 << 20

/** Prefetch distances in rows; 0 for none. `l1Distance`: of a second prefetch, into L1d. */
interface Prefetch {
  distance: number
  level: Level
  l1Distance: number
  unrolled: boolean
}

/** Whether there is an unrolled loop for rows of so many bytes. */
export const canUnroll = (rowBytes: number): boolean => [1, 2, 4, 8, 16].includes(rowBytes / 64)

const levels: readonly Level[] = [1, 2]
const distanceBytes = [0, 2048, 4096, 8192, 16384, 32768, 65536]
const distancesFor = (rowBytes: number) => [
  ...new Set(distanceBytes.map((bytes) => Math.ceil(bytes / rowBytes))),
]

const prefetchesFor = (rowBytes: number, into: readonly Level[], plain: boolean): Prefetch[] =>
  distancesFor(rowBytes).flatMap((distance) =>
    into.flatMap((level) => {
      const l1Distances = [...new Set([0, Math.floor(distance / 4), Math.floor(distance / 2)])]
      const prefetch = { distance, level, l1Distance: 0, unrolled: false }
      return [
        ...l1Distances.map((l1Distance) => ({ ...prefetch, l1Distance })),
        ...(canUnroll(rowBytes) && !plain ? [{ ...prefetch, unrolled: true }] : []),
      ]
    }),
  )

const seconds = (f: () => void): number => {
  const begin = performance.now()
  f()
  return (performance.now() - begin) / 1e3
}

/** The fastest of several variants: of the five with the best of three tries, the best median. */
function fastest<V>(variants: readonly V[], run: (variant: V, attempt: number) => void): V {
  let attempt = 0
  const once = (variant: V) => seconds(() => run(variant, attempt++))
  const finalists = variants
    .map((variant) => ({ variant, best: Math.min(...[0, 1, 2].map(() => once(variant))) }))
    .sort((a, b) => a.best - b.best)
    .slice(0, 5)
    .map(({ variant }) => ({ variant, times: [] as number[] }))
  for (let i = 0; i < 9; i++) for (const { variant, times } of finalists) times.push(once(variant))
  return finalists.reduce((a, b) => (median(b.times) < median(a.times) ? b : a)).variant
}

/** The rows that an input reads, each once, ascending. */
export function touched(indices: Int32Array): Int32Array {
  const sorted = indices.slice().sort()
  return sorted.filter((row, i) => i === 0 || row !== sorted[i - 1])
}

/** Shared by the thread counts, since a table's memory is. */
export class CeilingMemory {
  readonly native: Ceilings = loadCeilings()
  #memory: Memory | undefined
  #bytes = 0

  of(bytes: number): Memory {
    if (!this.#memory || this.#bytes < bytes) {
      this.free()
      this.#memory = this.native.allocate(bytes)
      this.#bytes = bytes
    }
    return this.#memory
  }

  free(): void {
    this.#memory = undefined
    this.#bytes = 0
  }
}

export class Ceiling implements Backend {
  readonly name = 'ceiling'
  readonly threads: number
  readonly #memory: CeilingMemory
  readonly #native: Ceilings
  readonly #ours: Ours
  #prefetches = new Map<string, Prefetch>()

  /**
   * Reads the tables of `ours`: equal loops on two allocations differ by up to 1.4 times, by how
   * the machine's host backs them.
   */
  constructor(threads: number, memory: CeilingMemory, ours: Ours) {
    this.threads = threads
    this.#memory = memory
    this.#native = memory.native
    this.#ours = ours
  }

  /**
   * Reads the rows of a bag, with the best prefetches into these levels of the cache. `plain`:
   * without unrolled loops.
   */
  gather(
    { table, sets, tokens, bag, distribution }: BagProblem,
    into: readonly Level[],
    plain = false,
  ): Contender {
    const lists = sets.map((s) => this.#native.rowList(s.indices, table.slots))
    const rowBytes = rowBytesOf(table)
    const { weight, scales } = this.#ours.table(table)
    this.#ours.wait()
    const rows = weight.handle('bench', 'table')
    const factors = scales?.handle('bench', 'scales')
    const run = (set: number, { distance, level, l1Distance, unrolled }: Prefetch) =>
      this.#native.gather(
        rows,
        factors,
        lists[set % lists.length]!,
        rowBytes,
        distance,
        l1Distance,
        level,
        unrolled,
        this.threads,
      )
    // The same for every problem of this kind: found once.
    const key = `${table.key} ${tokens * bag} ${distribution} ${into} ${plain}`
    const best =
      this.#prefetches.get(key) ??
      fastest(prefetchesFor(rowBytes, into, plain), (p, i) => run(i, p))
    this.#prefetches.set(key, best)
    return { run: (set) => run(set, best), result: () => ({}) }
  }

  async bag(problem: BagProblem): Promise<Contender> {
    return this.gather(problem, levels)
  }

  bagWeights = this.bag

  async update({ table, sets, rule }: UpdateProblem): Promise<Contender> {
    const tables = tablesOf[rule]
    const rowBytes = rowBytesOf(table)
    const rowState = rule === 'rowwiseAdagrad'
    const stride = table.slots * rowBytes + gap
    const memory = this.#memory.of(tables * stride + 4 * table.slots)
    const ascending = sets.map((s) => touched(s.indices))
    // Ascending rows share pages; shuffled ones do not. The ceiling is the faster order.
    const orders = [ascending, ascending.map(shuffled)].map((rows) =>
      rows.map((r) => this.#native.rowList(r, table.slots)),
    )
    const variants = orders.flatMap((lists) =>
      distancesFor(rowBytes * tables).flatMap((distance) =>
        levels.map((level) => ({ lists, distance, level })),
      ),
    )
    const run = (set: number, { lists, distance, level }: (typeof variants)[number]) =>
      this.#native.update(
        memory,
        lists[set % lists.length]!,
        rowBytes,
        tables,
        stride,
        rowState,
        distance,
        level,
        this.threads,
      )
    const best = fastest(variants, (variant, i) => run(i, variant))
    return { run: (set) => run(set, best), result: () => ({}) }
  }

  // As many multiply-adds as the product has, at the rate of the registers.
  #fma(flops: number): Contender {
    const perRound = this.#native.fma(1, 1)
    const rounds = Math.max(1, Math.round(flops / perRound / this.threads))
    return { run: () => this.#native.fma(rounds, this.threads), result: () => ({}) }
  }

  async lookup({ shape: { tokens, heads, half, nKeys } }: LookupProblem): Promise<Contender> {
    return this.#fma(4 * tokens * heads * nKeys * half)
  }

  async gemm({ shape: { rows, inner, columns } }: GemmProblem): Promise<Contender> {
    return this.#fma(2 * rows * inner * columns)
  }

  /**
   * The bytes that one token needs: its rows of the table, and all of the keys and matrices, which
   * stay in the cache from call to call.
   */
  async token({ shape, state, rows }: TokenProblem): Promise<Contender> {
    const native = this.#native
    const { 'values.weight': table, ...dense } = state
    const bytes = Object.values(dense).reduce((sum, data) => sum + data.byteLength, 0)
    const pageBytes = 4096
    const pages = Math.ceil(bytes / pageBytes)
    const matrices = native.allocate(pages * pageBytes)
    const all = native.rowList(
      Int32Array.from({ length: pages }, (_, i) => i),
      pages,
    )
    const rowBytes = shape.inputDim * 4
    const slots = table!.length / shape.inputDim
    const memory = this.#memory.of(slots * rowBytes)
    const lists = rows.map((r) => native.rowList(r, slots))
    const distance = Math.ceil(16384 / rowBytes)
    const run = (set: number) => {
      native.gather(memory, undefined, lists[set]!, rowBytes, distance, 0, 1, false, this.threads)
      native.gather(matrices, undefined, all, pageBytes, 2, 0, 1, false, this.threads)
    }
    return { run, result: () => ({}) }
  }

  forget(): void {
    this.#memory.free()
  }
}

function shuffled(rows: Int32Array): Int32Array {
  const list = rows.slice()
  let s = 1
  for (let i = list.length - 1; i > 0; i--) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    const j = s % (i + 1)
    const swapped = list[i]!
    list[i] = list[j]!
    list[j] = swapped
  }
  return list
}

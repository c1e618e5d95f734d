// What the machine can do at best: the same rows, only read, or only read and written;
// multiply-adds in registers.

import { type Ceilings, loadCeilings, type Memory, type RowList } from '../ceilings.js'
import { bytesOf } from '../data.js'
import { type Contender, timingOf } from '../harness.js'
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
const partsOf: Record<Rule, number> = { sgd: 1, rowwiseAdagrad: 1, adamw: 3 }
/** Between two of them: tables that are a power of two apart share the sets of the cache. */
const gap = 2 << 20
const aheadBytes = [0, 2048, 4096, 8192, 16384, 32768, 65536]

/**
 * Rows between a read and the prefetch of its row into the first or second cache, and rows between
 * it and a second prefetch into the first; 0 for none.
 */
interface Prefetch {
  ahead: number
  cache: 1 | 2
  again: number
}

const caches = [1, 2] as const

const prefetchesFor = (rowBytes: number, into: readonly (1 | 2)[]): Prefetch[] =>
  [...new Set(aheadBytes.map((bytes) => Math.ceil(bytes / rowBytes)))].flatMap((ahead) =>
    into.flatMap((cache) =>
      [...new Set([0, Math.floor(ahead / 4), Math.floor(ahead / 2)])].map((again) => ({
        ahead,
        cache,
        again,
      })),
    ),
  )

const seconds = (f: () => void): number => {
  const begin = performance.now()
  f()
  return (performance.now() - begin) / 1e3
}

/**
 * Of several ways the fastest: of the five whose least time of three tries is the least, the one
 * with the least median of further tries in turn.
 */
function fastest<Way>(ways: readonly Way[], walk: (way: Way) => void): Way {
  const tries = ways.map((way) => ({ way, times: [0, 1, 2].map(() => seconds(() => walk(way))) }))
  const best = tries.sort((a, b) => Math.min(...a.times) - Math.min(...b.times)).slice(0, 5)
  for (const one of best) one.times = []
  for (let i = 0; i < 9; i++)
    for (const { way, times } of best) times.push(seconds(() => walk(way)))
  const median = (times: readonly number[]) => timingOf('a walk', 0, times).seconds
  return best.reduce((a, b) => (median(b.times) < median(a.times) ? b : a)).way
}

/** The rows a read touches, each once, ascending. */
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
      this.#memory = undefined
      this.#memory = this.native.allocate(bytes)
      this.#bytes = bytes
    }
    return this.#memory
  }

  release(): void {
    this.#memory = undefined
    this.#bytes = 0
  }
}

export class Ceiling implements Backend {
  readonly name = 'ceiling'
  readonly threads: number
  readonly #shared: CeilingMemory
  readonly #ours: Ours
  #best = new Map<string, Prefetch>()

  /**
   * Reads the tables of `ours`: equal loops on two pieces of memory differ by up to 1.4 times, by
   * how the machine's host backs them.
   */
  constructor(threads: number, shared: CeilingMemory, ours: Ours) {
    this.threads = threads
    this.#shared = shared
    this.#ours = ours
  }

  // The best prefetches for this kind of walk, found once.
  #prefetch(
    key: string,
    rowBytes: number,
    into: readonly (1 | 2)[],
    walk: (p: Prefetch) => void,
  ): Prefetch {
    let best = this.#best.get(key)
    if (best === undefined) {
      best = fastest(prefetchesFor(rowBytes, into), walk)
      this.#best.set(key, best)
    }
    return best
  }

  #gather(
    { table, sets, tokens, bag, distribution }: BagProblem,
    into: readonly (1 | 2)[],
  ): Contender {
    const lists = sets.map((s) => this.#shared.native.rowList(s.indices, table.slots))
    const key = `gather ${table.key} ${tokens * bag} ${distribution} ${into.join()}`
    const { native } = this.#shared
    const rowBytes = table.dim * bytesOf[table.dtype]
    const { weight, scales } = this.#ours.table(table)
    this.#ours.wait()
    const [rows, factors] = [weight.handle('bench', 'table'), scales?.handle('bench', 'scales')]
    const walk = (list: RowList, p: Prefetch) =>
      native.gather(rows, factors, list, rowBytes, p.ahead, p.again, p.cache, this.threads)
    let turn = 0
    const best = this.#prefetch(key, rowBytes, into, (p) => walk(lists[turn++ % lists.length]!, p))
    return { run: (set) => walk(lists[set]!, best), result: () => ({}) }
  }

  async bag(problem: BagProblem): Promise<Contender> {
    return this.#gather(problem, caches)
  }

  /** The same loop where it may prefetch into the first cache only. */
  bagByFirst(problem: BagProblem): Contender {
    return this.#gather(problem, [1])
  }

  bagWeights = this.bag

  async update({ table, sets, rule }: UpdateProblem): Promise<Contender> {
    const { native } = this.#shared
    const parts = partsOf[rule]
    const rowBytes = table.dim * 4
    const numbers = rule === 'rowwiseAdagrad'
    const apart = table.slots * rowBytes + gap
    const memory = this.#shared.of(parts * apart + 4 * table.slots)
    const walk = (list: RowList, ahead: number, cache: 1 | 2) =>
      native.update(memory, list, rowBytes, parts, apart, numbers, ahead, cache, this.threads)
    const ascending = sets.map((s) => touched(s.indices))
    // Ascending rows share pages; drawn order does not. The ceiling is the faster one.
    const orders = [ascending, ascending.map(shuffled)].map((rows) =>
      rows.map((r) => native.rowList(r, table.slots)),
    )
    const aheads = [...new Set(aheadBytes.map((bytes) => Math.ceil(bytes / rowBytes / parts)))]
    const ways = orders.flatMap((lists) =>
      aheads.flatMap((ahead) => caches.map((cache) => ({ lists, ahead, cache }))),
    )
    let turn = 0
    const { lists, ahead, cache } = fastest(ways, (w) =>
      walk(w.lists[turn++ % w.lists.length]!, w.ahead, w.cache),
    )
    return { run: (set) => walk(lists[set]!, ahead, cache), result: () => ({}) }
  }

  // As many multiply-adds as the product has, at the rate of the registers.
  #fma(flops: number): Contender {
    const { native } = this.#shared
    const perRound = native.fma(1, 1)
    const rounds = Math.max(1, Math.round(flops / perRound / this.threads))
    return { run: () => native.fma(rounds, this.threads), result: () => ({}) }
  }

  async lookup({ shape: { tokens, heads, half, nKeys } }: LookupProblem): Promise<Contender> {
    return this.#fma(4 * tokens * heads * nKeys * half)
  }

  /**
   * The bytes one token needs: its rows of the table, and all of the keys and matrices, which stay
   * in the cache from call to call.
   */
  async token({ shape, state, rows }: TokenProblem): Promise<Contender> {
    const { native } = this.#shared
    const { 'values.weight': table, ...dense } = state
    const bytes = Object.values(dense).reduce((sum, data) => sum + data.byteLength, 0)
    const lines = Math.ceil(bytes / 4096)
    const matrices = native.allocate(lines * 4096)
    const all = native.rowList(
      Int32Array.from({ length: lines }, (_, i) => i),
      lines,
    )
    const rowBytes = shape.inputDim * 4
    const slots = table!.length / shape.inputDim
    const memory = this.#shared.of(slots * rowBytes)
    const lists = rows.map((r) => native.rowList(r, slots))
    const ahead = Math.ceil(16384 / rowBytes)
    const run = (set: number) => {
      native.gather(memory, undefined, lists[set]!, rowBytes, ahead, 0, 1, this.threads)
      native.gather(matrices, undefined, all, 4096, 2, 0, 1, this.threads)
    }
    return { run, result: () => ({}) }
  }

  async gemm({ shape: { rows, inner, columns } }: GemmProblem): Promise<Contender> {
    return this.#fma(2 * rows * inner * columns)
  }

  forget(): void {
    this.#shared.release()
  }
}

function shuffled(rows: Int32Array): Int32Array {
  const list = rows.slice()
  let s = 1
  for (let i = list.length - 1; i > 0; i--) {
    s = (Math.imul(s, 1664525) + 1013904223) >>> 0
    const j = s % (i + 1)
    const kept = list[i]!
    list[i] = list[j]!
    list[j] = kept
  }
  return list
}

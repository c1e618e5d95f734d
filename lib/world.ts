// The ranks that one launcher has started, and groups of them.

import { type GroupHandle, native } from './binding.js'
import { checkSame, digest } from './digest.js'
import { MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { checkInteger, checkOptions } from './options.js'
import { Arriving, PendingReduce } from './pending.js'
import { expectTokens } from './sharding/token-counts.js'
import { Tensor, tensorHandle } from './tensor.js'
import {
  type AllReduceOptions,
  type CollectiveTraffic,
  combination,
  equalParts,
  type SplitOptions,
} from './world-options.js'

/**
 * Ranks that compute together, each a process with a device of its own. All of them make the same
 * calls in the same order. Collectives on tensors are enqueued on the tensor's device like any
 * operation and return at once; sums are taken in the order of the ranks, so every rank gets the
 * same bits, in every run and with every MPI. A rank that is lost, or takes no part for longer than
 * the timeout, makes all that depends on it ERR_DISTRIBUTED, with its `rank`.
 *
 * Costs are in bytes that a rank sends, with P ranks and a tensor of n bytes.
 */
export class World {
  /** This process among the ranks, from 0. */
  readonly rank: number
  /** Number of ranks. */
  readonly size: number
  /** What carries the data: `'Open MPI 4.1.4, rank 0 of 4'`. */
  readonly description: string
  readonly #handle: GroupHandle
  readonly #library: string
  readonly #numbers: { next: number }
  readonly #members: readonly number[]
  readonly #whole: boolean
  #closed = false
  #left: Promise<void> | undefined

  /** @internal Worlds are made by initDistributed and split. */
  constructor(
    handle: GroupHandle,
    library: string,
    numbers = { next: 1 },
    members?: readonly number[],
  ) {
    this.#handle = handle
    this.rank = handle.rank
    this.size = handle.size
    this.description = `${library}, rank ${handle.rank} of ${handle.size}`
    this.#library = library
    this.#numbers = numbers
    this.#whole = members === undefined
    this.#members = members ?? Array.from({ length: handle.size }, (_, rank) => rank)
  }

  /** @internal Whether this is a world, and no Proxy of one. */
  static is(value: unknown): value is World {
    return typeof value === 'object' && value !== null && #handle in value
  }

  /** @internal */
  handle(where: string): GroupHandle {
    if (this.#closed)
      throw new MemoryLayersError(
        'ERR_DISPOSED',
        `${where}: "world" was closed.\n  Nothing can be sent after close().`,
      )
    return this.#handle
  }

  /**
   * The group of the ranks that give the same colour, which every rank calls. Its ranks count from
   * 0; errors name ranks of the whole world.
   * @throws ERR_VALUE, ERR_OPTION; ERR_DISTRIBUTED
   */
  async split(options: SplitOptions): Promise<World> {
    const where = 'world.split'
    const { color, key } = checkOptions(where, options, ['color', 'key'])
    const own = [
      checkInteger(where, 'color', color, 0),
      checkInteger(where, 'key', key ?? this.rank, Number.MIN_SAFE_INTEGER),
      this.#numbers.next,
    ]
    const all = await this.exchange(own)
    // Groups that have a rank in common must not have the same number.
    const number = Math.max(...all.map(([, , next = 0]) => next))
    this.#numbers.next = number + 1
    const members = all
      .map(([color, key = 0], rank) => ({ color, key, rank }))
      .filter((other) => other.color === own[0])
      .sort((a, b) => a.key - b.key || a.rank - b.rank)
      .map(({ rank }) => this.#members[rank] as number)
    const handle = native.groupMake(this.handle(where), members, number)
    return new World(handle, this.#library, this.#numbers, members)
  }

  /** Resolves when every rank has called it. */
  async barrier(): Promise<void> {
    await this.exchange([0]) // what has no bytes is not sent
  }

  /**
   * Equally many numbers of every rank, between hosts: `result[r]` are those of rank r. For sizes
   * that others need to know, ahead of the step that uses them. Costs 8 (P - 1) bytes a number.
   * @throws ERR_DISTRIBUTED
   */
  async exchange(numbers: readonly number[]): Promise<number[][]> {
    const handle = this.handle('world.exchange')
    const all = await native.groupExchange(handle, Float64Array.from(numbers))
    return this.#rows(all, numbers.length)
  }

  /** The same as {@link World.exchange}, blocking the thread. */
  exchangeSync(numbers: readonly number[]): number[][] {
    const handle = this.handle('world.exchangeSync')
    return this.#rows(native.groupExchangeSync(handle, Float64Array.from(numbers)), numbers.length)
  }

  /** @internal The same with bytes, equally many of every rank. */
  async exchangeBytes(bytes: Uint8Array): Promise<Uint8Array[]> {
    const all = new Uint8Array(await native.groupExchange(this.handle('world.exchange'), bytes))
    const { length } = bytes
    return Array.from({ length: this.size }, (_, r) => all.subarray(r * length, (r + 1) * length))
  }

  /** @internal The rank in the world of a rank here. */
  worldRank(rank: number): number {
    return this.#members[rank]!
  }

  /** @internal Its ranks among those of `world`, -1 where they are not. */
  ranksIn(world: World): number[] {
    return this.#members.map((member) => world.#members.indexOf(member))
  }

  /**
   * Tells the others how many tokens this rank gives to layers on tables that the ranks divide, at
   * each call until the next `shareTokens`. Without it each call has as many on every rank.
   * @returns the numbers of all ranks
   * @throws ERR_VALUE; ERR_DISTRIBUTED
   */
  async shareTokens(tokens: number): Promise<number[]> {
    const own = [checkInteger('world.shareTokens', 'tokens', tokens, 0)]
    const counts = (await this.exchange(own)).map(([count]) => count!)
    expectTokens(this, counts)
    return counts
  }

  #rows(all: ArrayBuffer, count: number): number[][] {
    const numbers = Array.from(new Float64Array(all))
    return Array.from({ length: this.size }, (_, r) => numbers.slice(r * count, (r + 1) * count))
  }

  /**
   * Has every rank give the same text, such as a configuration.
   * @param what names it in the error
   * @throws ERR_DISTRIBUTED on every rank, with the first `rank` that differs from rank 0
   */
  async expectSame(what: string, text: string): Promise<void> {
    const digests = await this.exchange(digest(text))
    checkSame(what, text, digests, this.#members, this.rank)
  }

  /** The same as {@link World.expectSame}, blocking the thread. */
  expectSameSync(what: string, text: string): void {
    checkSame(what, text, this.exchangeSync(digest(text)), this.#members, this.rank)
  }

  /**
   * x, float32, becomes its sum or mean over the ranks, with the same bits on each. Sends about 2 n
   * (P - 1) / P bytes.
   * @throws ERR_DTYPE, ERR_OPTION
   */
  allReduce(x: Tensor, options: AllReduceOptions = {}): void {
    const where = 'world.allReduce'
    const combine = combination(where, options)
    native.allReduce(this.handle(where), tensorHandle(where, 'x', x), combine)
  }

  /**
   * As {@link World.allReduce}, beside the work that follows. x must not be used before `wait()`.
   */
  startAllReduce(x: Tensor, options: AllReduceOptions = {}): PendingReduce {
    const where = 'world.startAllReduce'
    const combine = combination(where, options)
    return new PendingReduce(
      native.allReduceStart(this.handle(where), tensorHandle(where, 'x', x), combine),
    )
  }

  /** x of rank `root` becomes that of all. The root sends n (P - 1) bytes. @throws ERR_VALUE */
  broadcast(x: Tensor, root = 0): void {
    const where = 'world.broadcast'
    const handle = tensorHandle(where, 'x', x)
    native.broadcast(this.handle(where), handle, checkInteger(where, 'root', root, 0))
  }

  /**
   * The rows of all ranks' x below each other, in the order of the ranks. Sends n (P - 1) bytes.
   * @param rows of every rank, where they differ
   * @throws ERR_SHAPE, ERR_VALUE
   */
  allGather(x: Tensor, rows?: readonly number[]): Tensor {
    return this.startAllGather(x, rows).wait()
  }

  /** As {@link World.allGather}, beside the work that follows; x must stay until `wait()`. */
  startAllGather(x: Tensor, rows?: readonly number[]): Arriving {
    const where = 'world.allGather'
    const handle = tensorHandle(where, 'x', x)
    const counts = rows ?? new Array(this.size).fill(x.shape[0] ?? 0)
    const { tensor, pending } = native.allGather(this.handle(where), handle, counts)
    return new Arriving(new Tensor(x.device, tensor), pending)
  }

  /**
   * x holds `send[r]` rows for each rank r; the result the rows that each rank has sent here, in
   * the order of the ranks. Sends the rows for others.
   * @param send rows for every rank; default: as many for each
   * @param receive rows from every rank; default: as `send`
   * @throws ERR_SHAPE, ERR_VALUE
   */
  allToAll(x: Tensor, send?: readonly number[], receive = send): Tensor {
    return this.startAllToAll(x, send, receive).wait()
  }

  /** As {@link World.allToAll}, beside the work that follows; x must stay until `wait()`. */
  startAllToAll(x: Tensor, send?: readonly number[], receive = send): Arriving {
    const where = 'world.allToAll'
    const handle = tensorHandle(where, 'x', x)
    const sent = send ?? equalParts(where, x, this.size)
    const { tensor, pending } = native.allToAll(this.handle(where), handle, sent, receive ?? sent)
    return new Arriving(new Tensor(x.device, tensor), pending)
  }

  /**
   * x, float32, holds `rows[r]` rows for each rank r; the result is the sum over the ranks of those
   * for this one. Sends the rows for others.
   * @param rows for every rank; default: as many for each
   * @throws ERR_SHAPE, ERR_VALUE, ERR_DTYPE
   */
  reduceScatter(x: Tensor, rows?: readonly number[]): Tensor<'float32'> {
    const where = 'world.reduceScatter'
    const handle = tensorHandle(where, 'x', x)
    const counts = rows ?? equalParts(where, x, this.size)
    return new Tensor(x.device, native.reduceScatter(this.handle(where), handle, counts))
  }

  /**
   * What this rank has sent and received through this group so far, by collective; 'exchange' is
   * what went between hosts. Not counted: what stays on the rank, and what MPI adds.
   */
  traffic(): Record<string, CollectiveTraffic> {
    return native.groupTraffic(this.handle('world.traffic'))
  }

  /** Bytes that this rank has sent to each through this group so far, those between hosts too. */
  sentTo(): number[] {
    return native.groupSentTo(this.handle('world.sentTo'))
  }

  /**
   * Leaves the other ranks, once all of them have called it and what was enqueued between them has
   * ended; results of it can be read afterwards. Nothing can be sent after it, by groups that were
   * split off neither, which need no close().
   * @throws ERR_DISTRIBUTED where a rank is lost meanwhile
   */
  async close(): Promise<void> {
    if (!this.#whole) return
    this.#left ??= this.#leave()
    await this.#left
  }

  async #leave(): Promise<void> {
    const { failed } = await this.barrier().then(
      () => ({ failed: undefined }),
      (error) => ({ failed: error }),
    )
    this.#closed = true
    const left = native.worldFinish(this.#handle)
    if (!failed) return left
    await left.catch(() => {})
    throw failed
  }

  /** @internal */
  [inspect](): string {
    return `World ${this.description}`
  }
}

// A table whose columns are divided among the ranks of a group: which rank has which, and how rows
// travel between the ranks whose tokens they are of and those that hold their columns.

import { isObject } from '../describe.js'
import { fail } from '../errors.js'
import * as ops from '../ops.js'
import { checkChoice, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { World } from '../world.js'
import { tokensOf } from './token-counts.js'

/** How a table is divided. */
export interface ShardOptions {
  /** The ranks that divide it: a world, or what `split` gave. */
  group: World
  /** Each rank holds some columns of every row. */
  by: 'columns'
}

/** @internal A division of `width` columns: the first ranks have one more where it is uneven. */
export class ColumnShard {
  readonly group: World
  readonly width: number
  /** Where the columns of each rank begin, and the width. */
  readonly begins: readonly number[]

  constructor(group: World, width: number) {
    const { size } = group
    this.group = group
    this.width = width
    this.begins = shares(width, size)
  }

  get begin(): number {
    return this.begins[this.group.rank]!
  }

  get end(): number {
    return this.begins[this.group.rank + 1]!
  }

  /** Columns of a rank. */
  columns(rank: number = this.group.rank): number {
    return this.begins[rank + 1]! - this.begins[rank]!
  }
}

/** Where the shares of `count` things begin, and `count`: the first shares are the larger ones. */
export function shares(count: number, parts: number): number[] {
  const [each, more] = [Math.floor(count / parts), count % parts]
  return Array.from({ length: parts + 1 }, (_, i) => i * each + Math.min(i, more))
}

/** @throws ERR_OPTION, ERR_VALUE */
export function checkShard(where: string, shard: unknown, width: number): ColumnShard | undefined {
  if (shard === undefined) return undefined
  if (!isObject(shard)) fail('ERR_VALUE', where, 'shard', 'be { group, by }', shard)
  const { group, by } = checkOptions(`${where}: shard`, shard as Partial<ShardOptions>, [
    'group',
    'by',
  ])
  checkChoice(where, 'shard.by', by, ['columns'])
  if (!World.is(group))
    fail('ERR_VALUE', where, 'shard.group', 'be a world of initDistributed, or its split', group)
  if (group.size > width)
    fail('ERR_VALUE', where, 'dim', `be at least ${group.size}, a column a rank`, width)
  return new ColumnShard(group, width)
}

/** The tokens of all ranks, one rank after the other. */
export class TokenRows {
  readonly group: World
  /** How many each rank has, and all of them. */
  readonly counts: readonly number[]
  readonly total: number

  constructor(group: World, counts: readonly number[]) {
    this.group = group
    this.counts = counts
    this.total = counts.reduce((a, b) => a + b, 0)
  }

  /**
   * Of the next call of a layer, in which this rank has `own`.
   * @throws ERR_VALUE for other numbers than those that the ranks have told each other
   */
  static ofLayer(where: string, { group }: ColumnShard, own: number): TokenRows {
    const tokens = tokensOf(group)
    if (tokens && tokens[group.rank] !== own) {
      const requirement = `have the ${tokens[group.rank]} tokens that world.shareTokens told`
      fail('ERR_VALUE', where, 'x', requirement, `${own}`, 'Call it before each change.')
    }
    if (!tokens && own === 0 && group.size > 1) {
      const hint = 'Others have some? Every rank calls await world.shareTokens(tokens) before.'
      fail('ERR_VALUE', where, 'x', 'have tokens, as on all ranks', '0', hint)
    }
    return new TokenRows(group, tokens ?? new Array(group.size).fill(own))
  }

  get own(): number {
    return this.counts[this.group.rank]!
  }

  /** All-gather: `[own tokens, …]` of every rank to `[all tokens, …]`. */
  gather<T extends Tensor>(own: T): T {
    return this.startGather(own).wait() as T
  }

  /** It goes on beside the work that follows, until `wait()`. */
  startGather(own: Tensor): { wait(): Tensor } {
    if (this.group.size === 1) return { wait: () => own }
    return this.group.startAllGather(own, this.counts)
  }

  /**
   * Reduce-scatter: the sum over ranks of `[all tokens, n]` to the ranks whose tokens they are of,
   * added in the order of the ranks.
   */
  sum(partial: Tensor): Tensor {
    return this.group.size === 1 ? partial : this.group.reduceScatter(partial, this.counts)
  }

  /** All-to-all: my columns of all tokens, `[all tokens, columns]`, to `[own tokens, width]`. */
  toOwners(shard: ColumnShard, columns: Tensor): Tensor {
    const { group, own } = this
    if (group.size === 1) return columns
    const widths = this.counts.map((_, rank) => shard.columns(rank))
    const flat = group.allToAll(
      columns.reshape([columns.size]),
      this.counts.map((count) => count * shard.columns()),
      widths.map((width) => own * width),
    )
    const parts = widths.map((width, rank) => {
      const begin = own * shard.begins[rank]!
      return flat.rows(begin, begin + own * width).reshape([own, width])
    })
    return ops.concat(parts, 1)
  }

  /** All-to-all, back: `[own tokens, width]` to my columns of all, `[all tokens, columns]`. */
  toColumns(shard: ColumnShard, rows: Tensor): Tensor {
    return this.startColumns(shard, rows).wait()
  }

  /** It goes on beside the work that follows, until `wait()`. */
  startColumns(shard: ColumnShard, rows: Tensor): { wait(): Tensor } {
    const { group, own } = this
    if (group.size === 1) return { wait: () => rows }
    const widths = this.counts.map((_, rank) => shard.columns(rank))
    const sent = rows.device.empty([rows.size])
    for (const [rank, width] of widths.entries()) {
      const begin = own * shard.begins[rank]!
      ops.slice(rows, {
        begin: [0, shard.begins[rank]],
        end: [undefined, shard.begins[rank + 1]],
        out: sent.rows(begin, begin + own * width).reshape([own, width]),
      })
    }
    const received = group.startAllToAll(
      sent,
      widths.map((width) => own * width),
      this.counts.map((count) => count * shard.columns()),
    )
    return { wait: () => received.wait().reshape([this.total, shard.columns()]) }
  }
}

// A table whose columns are divided among the ranks of a group: which rank has which, and how rows
// travel between the ranks whose tokens they are of and those that hold their columns.

import { isInstance, isObject } from '../describe.js'
import { fail } from '../errors.js'
import * as ops from '../ops.js'
import { checkChoice, checkOptions } from '../options.js'
import type { Tensor } from '../tensor.js'
import { exchange, Group, gatherNumbers } from './group.js'

/** How a table is divided. */
export interface ShardOptions {
  /** The ranks that divide it: a world, or what `split` gave. */
  group: Group
  /** Each rank holds some columns of every row. */
  by: 'columns'
}

/** @internal A division of `width` columns: the first ranks have one more where it is uneven. */
export class ColumnShard {
  readonly group: Group
  readonly width: number
  /** Where the columns of each rank begin, and the width. */
  readonly begins: readonly number[]

  constructor(group: Group, width: number) {
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
  if (!isInstance(group, Group))
    fail('ERR_VALUE', where, 'shard.group', 'be a world of initDistributed, or its split', group)
  if (group.size > width)
    fail('ERR_VALUE', where, 'dim', `be at least ${group.size}, a column a rank`, width)
  return new ColumnShard(group, width)
}

/** The tokens of all ranks, one rank after the other. */
export class TokenRows {
  readonly group: Group
  /** Where those of each rank begin, and how many there are. */
  readonly begins: readonly number[]

  private constructor(group: Group, counts: readonly number[]) {
    const begins = [0]
    for (const count of counts) begins.push(begins.at(-1)! + count)
    this.group = group
    this.begins = begins
  }

  /** Asks every rank how many it has: a few bytes between the hosts. */
  static agree(group: Group, own: number): TokenRows {
    return new TokenRows(group, group.size === 1 ? [own] : gatherNumbers(group, own))
  }

  /** Every rank has as many. */
  static same(group: Group, own: number): TokenRows {
    return new TokenRows(group, new Array<number>(group.size).fill(own))
  }

  get total(): number {
    return this.begins.at(-1)!
  }

  /** The rows of a rank in a tensor that has those of all. */
  of<T extends Tensor>(rows: T, rank: number): T {
    return rows.rows(this.begins[rank]!, this.begins[rank + 1]!) as T
  }

  /** All-gather: `[own tokens, …]` of every rank to `[all tokens, …]`. */
  gather<T extends Tensor>(name: string, own: T): T {
    const { group } = this
    if (group.size === 1) return own
    const all = own.device.empty([this.total, ...own.shape.slice(1)], own.dtype) as T
    if (this.of(all, group.rank).size > 0) this.of(all, group.rank).copyFrom(own)
    exchange(
      group,
      name,
      () => own,
      (rank) => this.of(all, rank),
    )
    return all
  }

  /**
   * Reduce-scatter: the sum over ranks of `[all tokens, n]` to the ranks whose tokens they are of,
   * added in the order of the ranks.
   */
  sum(name: string, partial: Tensor): Tensor {
    const { group } = this
    if (group.size === 1) return partial
    const own = this.of(partial, group.rank)
    const parts = Array.from({ length: group.size }, (_, rank) =>
      rank === group.rank ? own : own.device.empty(own.shape),
    )
    exchange(
      group,
      name,
      (rank) => this.of(partial, rank),
      (rank) => parts[rank]!,
    )
    return parts.reduce((sum, part) => ops.add(sum, part))
  }

  /** All-to-all: my columns of all tokens, `[all tokens, columns]`, to `[own tokens, width]`. */
  toOwners(name: string, shard: ColumnShard, columns: Tensor): Tensor {
    const { group } = this
    if (group.size === 1) return columns
    const own = this.of(columns, group.rank)
    const parts = Array.from({ length: group.size }, (_, rank) =>
      rank === group.rank ? own : own.device.empty([own.shape[0]!, shard.columns(rank)]),
    )
    exchange(
      group,
      name,
      (rank) => this.of(columns, rank),
      (rank) => parts[rank]!,
    )
    return ops.concat(parts, 1)
  }

  /** All-to-all, back: `[own tokens, width]` to my columns of all, `[all tokens, columns]`. */
  toColumns(name: string, shard: ColumnShard, rows: Tensor): Tensor {
    const { group } = this
    if (group.size === 1) return rows
    const all = rows.device.empty([this.total, shard.columns()])
    const part = (rank: number, out?: Tensor) =>
      ops.slice(rows, {
        begin: [0, shard.begins[rank]],
        end: [undefined, shard.begins[rank + 1]],
        ...(out && { out }),
      })
    part(group.rank, this.of(all, group.rank))
    exchange(
      group,
      name,
      (rank) => part(rank),
      (rank) => this.of(all, rank),
    )
    return all
  }
}

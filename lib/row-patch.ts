// What was changed in a table: rows, with their bits before and after.

import { isInstance } from './describe.js'
import type { DType } from './dtype.js'
import { fail, isArray, MemoryLayersError } from './errors.js'
import { inspect } from './inspect.js'
import { joinRows, pickRows, type RowBits, sameRow } from './row-bits.js'
import { readPatch, writePatch } from './row-patch-file.js'
import { formatShape } from './shape.js'

/** @internal What a patch is made of. */
export interface PatchParts {
  readonly slots: number
  readonly dim: number
  readonly dtype: DType
  /** Ascending. */
  readonly rows: Int32Array
  readonly before: RowBits
  readonly after: RowBits
}

/**
 * Rows of a table with their bits before and after a change, of a 16-bit table with its exact
 * values: `table.diff()` makes it, `table.apply(patch)` and `table.revert(patch)` write it to a
 * table of the same shape and dtype on any device. It lies in the memory of the host.
 *
 * ```ts
 * import { Sgd, MemoryLayer, openDevice } from 'memory-layers'
 *
 * const options = { inputDim: 8, heads: 2, knn: 4, nKeys: 8, keyDim: 8 }
 * const memory = new MemoryLayer(openDevice(), options)
 * const optimizer = new Sgd(memory.parameters(), { lr: 0.1 })
 * memory.values.track()
 * const { output, context } = memory.forward(new Float32Array(8).fill(1))
 * memory.backward(context, output).dispose()
 * optimizer.step()
 * const patch = await memory.values.diff()
 * await memory.values.revert(patch) // each bit of the table is what it was
 * ```
 */
export class RowPatch {
  /** Rows of the table, N. */
  readonly slots: number
  /** Width of a row, V. */
  readonly dim: number
  /** Of the table. */
  readonly dtype: DType
  /** The rows that are changed, ascending. */
  readonly rows: Int32Array
  /** @internal */
  readonly before: RowBits
  /** @internal */
  readonly after: RowBits

  /** @internal */
  constructor(parts: PatchParts) {
    this.slots = parts.slots
    this.dim = parts.dim
    this.dtype = parts.dtype
    this.rows = parts.rows
    this.before = parts.before
    this.after = parts.after
  }

  /** Bytes of the bits before and after. */
  get byteLength(): number {
    const bytes = ({ bits, exact }: RowBits) => bits.length + (exact?.length ?? 0)
    return bytes(this.before) + bytes(this.after)
  }

  /**
   * Writes the patch to a safetensors file: `rows`, `before` and `after` `[R, dim]`, of 16 bits
   * with `before.exact` and `after.exact`.
   * @throws ERR_VALUE, ERR_FILE_FORMAT as `saveSafetensors`
   */
  save(path: string): Promise<void> {
    return writePatch(path, this)
  }

  /**
   * Reads a file of {@link RowPatch.save}, checking all that is in it.
   * @throws ERR_FILE_FORMAT for any other file, ERR_VALUE
   */
  static async load(path: string): Promise<RowPatch> {
    return new RowPatch(await readPatch('RowPatch.load', path))
  }

  /**
   * One patch of several that were made one after another: it applies and reverts as they do in
   * that order, all or nothing. Rows that end as they began are left out.
   * @throws ERR_CONFLICT with the rows that a later patch found otherwise than the one before it
   * left them; ERR_VALUE for patches of different kinds of tables
   */
  static stack(patches: readonly RowPatch[]): RowPatch {
    const where = 'RowPatch.stack'
    if (!isArray(patches) || patches.length === 0)
      fail('ERR_VALUE', where, 'patches', 'be an array of patches', patches)
    for (const [i, patch] of patches.entries()) {
      if (!isInstance(patch, RowPatch))
        fail('ERR_VALUE', where, `patches[${i}]`, 'be a RowPatch', patch)
      const [wanted, found] = [kindOf(patches[0]!), kindOf(patch)]
      if (found !== wanted) fail('ERR_VALUE', where, `patches[${i}]`, `be of ${wanted}`, found)
    }
    return stacked(where, patches)
  }

  /** @internal */
  [inspect](): string {
    return `RowPatch of ${this.rows.length} rows of ${kindOf(this)}`
  }
}

function kindOf({ dtype, slots, dim }: Pick<RowPatch, 'dtype' | 'slots' | 'dim'>): string {
  return `a ${dtype} table ${formatShape([slots, dim])}`
}

/** @internal Rows before and after, in any order. */
export type Changes = Pick<PatchParts, 'rows' | 'before' | 'after'>

/** A row, and where its bits are in those before and in those after. */
export interface Span {
  readonly row: number
  readonly first: number
  last: number
}

function stacked(where: string, patches: readonly RowPatch[]): RowPatch {
  const before = joinRows(patches.map((p) => p.before))
  const after = joinRows(patches.map((p) => p.after))
  const spans = new Map<number, Span>()
  const conflicts: number[] = []
  let at = 0
  for (const { rows } of patches)
    for (const row of rows) {
      const span = spans.get(row)
      if (!span) spans.set(row, { row, first: at, last: at })
      else {
        if (!sameRow(after, span.last, before, at)) conflicts.push(row)
        span.last = at
      }
      at++
    }
  if (conflicts.length > 0) failConflict(where, conflicts, 'as the patch before left them')
  const changed = [...spans.values()].filter((s) => !sameRow(before, s.first, after, s.last))
  return new RowPatch(patchOf(patches[0]!, changed, before, after))
}

/** The patch of rows that are `first` of `before` and `last` of `after`. */
export function patchOf(
  { slots, dim, dtype }: Pick<PatchParts, 'slots' | 'dim' | 'dtype'>,
  changed: readonly Span[],
  before: RowBits,
  after: RowBits,
): PatchParts {
  const spans = [...changed].sort((a, b) => a.row - b.row)
  return {
    slots,
    dim,
    dtype,
    rows: Int32Array.from(spans, ({ row }) => row),
    before: pickRows(
      before,
      spans.map(({ first }) => first),
    ),
    after: pickRows(
      after,
      spans.map(({ last }) => last),
    ),
  }
}

/** @throws ERR_CONFLICT */
export function failConflict(where: string, conflicts: readonly number[], wanted: string): never {
  const rows = Int32Array.from(new Set(conflicts)).sort()
  const shown = [...rows.subarray(0, 8)].join(', ') + (rows.length > 8 ? ', …' : '')
  const message =
    `${where}: the rows of the patch must be ${wanted}; ${rows.length} are not: ${shown}.\n` +
    '  Nothing was changed. Revert later patches first, the last one before the others.'
  throw new MemoryLayersError('ERR_CONFLICT', message, undefined, rows)
}

// Rows of a table as bytes, in the memory of the host.

import { native, type TableHandle, type TensorHandle } from './binding.js'

/** Rows one after another. */
export interface RowBits {
  readonly count: number
  /** Of the table. */
  readonly bits: Uint8Array
  /** Of the exact values of a 16-bit table (native/optim/exact_rows.h), if it has them. */
  readonly exact: Uint8Array | undefined
}

/** Reads handles of `count` rows, that are then disposed. */
export async function readBits(
  where: string,
  count: number,
  read: { bits: TensorHandle; exact?: TensorHandle | undefined },
): Promise<RowBits> {
  const bytes = async (tensor: TensorHandle) => {
    const buffer = native.tensorRead(tensor, where)
    native.tensorDispose(tensor)
    return new Uint8Array(await buffer)
  }
  const [bits, exact] = await Promise.all([bytes(read.bits), read.exact && bytes(read.exact)])
  return { count, bits, exact }
}

/** The present bits of `count` rows. */
export function readRowBits(
  where: string,
  table: TableHandle,
  rows: TensorHandle,
  count: number,
): Promise<RowBits> {
  return readBits(where, count, native.tableReadRows(table, rows))
}

/** Whether row i of a is row j of b; exact values are compared where both have them. */
export function sameRow(a: RowBits, i: number, b: RowBits, j: number): boolean {
  const same = (x: Uint8Array | undefined, y: Uint8Array | undefined) =>
    !x || !y || Buffer.compare(rowOf(x, i, a.count), rowOf(y, j, b.count)) === 0
  return same(a.bits, b.bits) && same(a.exact, b.exact)
}

/** Rows in the order of `order`. */
export function pickRows({ count, bits, exact }: RowBits, order: readonly number[]): RowBits {
  if (count === 0) return { count, bits, exact }
  const pick = (from: Uint8Array) => {
    const length = from.length / count
    const picked = new Uint8Array(length * order.length)
    for (const [to, i] of order.entries()) picked.set(rowOf(from, i, count), to * length)
    return picked
  }
  return { count: order.length, bits: pick(bits), exact: exact && pick(exact) }
}

/** The rows of several tables of one kind, one after another. */
export function joinRows(parts: readonly RowBits[]): RowBits {
  return {
    count: parts.reduce((sum, { count }) => sum + count, 0),
    ...joined(parts, (part) => Buffer.concat(part)),
  }
}

/** Elements [begin, end) of each row, of `width`. */
export function pickColumns(
  { count, bits, exact }: RowBits,
  width: number,
  begin: number,
  end: number,
): RowBits {
  const pick = (from: Uint8Array) => {
    const element = from.length / Math.max(count, 1) / width
    const columns = Array.from({ length: count }, (_, i) =>
      rowOf(from, i, count).subarray(begin * element, end * element),
    )
    return Buffer.concat(columns)
  }
  return { count, bits: pick(bits), exact: exact && pick(exact) }
}

/** Rows whose columns are those of the first part, then of the next. */
export function joinColumns(parts: readonly RowBits[]): RowBits {
  const { count } = parts[0]!
  const join = (from: readonly Uint8Array[]) => {
    const rows = Array.from({ length: count }, (_, i) => from.map((part) => rowOf(part, i, count)))
    return Buffer.concat(rows.flat())
  }
  return { count, ...joined(parts, join) }
}

function joined(
  parts: readonly RowBits[],
  join: (parts: readonly Uint8Array[]) => Uint8Array,
): Omit<RowBits, 'count'> {
  const exact = parts.flatMap((part) => (part.exact ? [part.exact] : []))
  return {
    bits: join(parts.map(({ bits }) => bits)),
    exact: exact.length === parts.length ? join(exact) : undefined,
  }
}

function rowOf(bytes: Uint8Array, i: number, rows: number): Uint8Array {
  const length = bytes.length / rows
  return bytes.subarray(i * length, (i + 1) * length)
}

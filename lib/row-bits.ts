// Rows of a table as bytes, in the memory of the host.

import { native, type TableHandle, type TensorHandle } from './binding.js'

/** The bytes of R rows, one after another. */
export interface RowBits {
  /** Of the table. */
  readonly bits: Uint8Array
  /** Of the exact values of a 16-bit table (native/optim/exact_rows.h), if it has them. */
  readonly exact: Uint8Array | undefined
}

/** Reads handles that are then disposed. */
export async function readBits(
  where: string,
  read: { bits: TensorHandle; exact?: TensorHandle | undefined },
): Promise<RowBits> {
  const bytes = async (tensor: TensorHandle) => {
    const buffer = native.tensorRead(tensor, where)
    native.tensorDispose(tensor)
    return new Uint8Array(await buffer)
  }
  const [bits, exact] = await Promise.all([bytes(read.bits), read.exact && bytes(read.exact)])
  return { bits, exact }
}

/** The present bits of rows. */
export function readRowBits(
  where: string,
  table: TableHandle,
  rows: TensorHandle,
): Promise<RowBits> {
  return readBits(where, native.tableReadRows(table, rows))
}

/** Whether row i of R is the same in both; exact values are compared where both have them. */
export function sameRow(a: RowBits, b: RowBits, i: number, rows: number): boolean {
  const same = (x: Uint8Array | undefined, y: Uint8Array | undefined) =>
    !x || !y || Buffer.compare(rowOf(x, i, rows), rowOf(y, i, rows)) === 0
  return same(a.bits, b.bits) && same(a.exact, b.exact)
}

/** Rows of R, in the order of `order`. */
export function pickRows(
  { bits, exact }: RowBits,
  order: readonly number[],
  rows: number,
): RowBits {
  const pick = (from: Uint8Array) => {
    const picked = new Uint8Array((from.length / rows) * order.length)
    const { length } = rowOf(from, 0, rows)
    for (const [to, i] of order.entries()) picked.set(rowOf(from, i, rows), to * length)
    return picked
  }
  if (rows === 0) return { bits, exact }
  return { bits: pick(bits), exact: exact && pick(exact) }
}

/** The rows of several, one after another. */
export function joinRows(parts: readonly RowBits[]): RowBits {
  const exact = parts.flatMap((part) => part.exact ?? [])
  return {
    bits: Buffer.concat(parts.map((part) => part.bits)),
    exact: exact.length > 0 ? Buffer.concat(exact) : undefined,
  }
}

function rowOf(bytes: Uint8Array, i: number, rows: number): Uint8Array {
  const length = bytes.length / rows
  return bytes.subarray(i * length, (i + 1) * length)
}

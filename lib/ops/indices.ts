// Indices as numbers or as a tensor.

import type { Device } from '../device.js'
import { encodeIndices, isNumericData, type NumericData, readNumbers } from '../encode.js'
import { fail } from '../errors.js'
import { tensorOf } from '../new-tensor.js'
import { formatShape, Tensor, tensorHandle } from '../tensor.js'

/** Indices as a tensor, or as numbers, which are checked at the call. */
export type Indices = Tensor | NumericData

/**
 * @internal Indices as a tensor, of numbers in the shape of `like` or on one axis; one made here is
 * `temporary`, and the caller disposes it.
 */
export function toIndexTensor(
  where: string,
  indices: Indices,
  slots: number,
  device: Device,
  argument = 'indices',
  like?: { name: string; tensor: Tensor },
): { tensor: Tensor; temporary?: Tensor } {
  if (Tensor.is(indices)) return { tensor: indices }
  if (!isNumericData(indices)) {
    const requirement = 'be an int32 Tensor, a typed array or an array of integers'
    fail('ERR_DTYPE', where, argument, requirement, indices)
  }
  const numbers = readNumbers(where, argument, indices)
  const { length } = numbers
  const shape = like?.tensor.shape ?? [length]
  if (like && length !== like.tensor.size) {
    const wanted = `"${like.name}" ${formatShape(shape)} has`
    const requirement = `have ${like.tensor.size} elements as ${wanted}`
    fail('ERR_SHAPE', where, argument, requirement, length)
  }
  const values = encodeIndices(where, argument, numbers, {
    limit: slots,
    ignored: [-1],
    hint: (index) => `-1 marks a padding entry${rowsFor(index, slots)}.`,
  })
  const exact = { kind: 'Int32Array', length, values } as const
  const temporary = tensorOf(where, argument, exact, device, shape)
  return { tensor: temporary, temporary }
}

/** For an index that is too large, as core/index_error.h has it. */
function rowsFor(index: unknown, slots: number): string {
  if (!(Number.isInteger(index) && (index as number) >= slots)) return ''
  return `; ${(index as number) + 1} rows (a model's vocabSize) would do`
}

/** @internal The rows of a table that a user gave. */
export function tableSlots(where: string, table: Tensor): number {
  tensorHandle(where, 'table', table)
  const [slots, width, ...rest] = table.shape
  if (slots === undefined || width === undefined || rest.length > 0)
    fail('ERR_SHAPE', where, 'table', 'have shape [slots, dim]', formatShape(table.shape))
  return slots
}

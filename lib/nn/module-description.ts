// The table that Module.describe() gives.

import { isInstance } from '../describe.js'
import { TableLayer } from '../layer.js'
import type { Parameter } from '../parameter.js'
import { formatShape, type Tensor } from '../tensor.js'
import { type Child, parametersOf } from './children.js'
import { Embedding } from './embedding.js'
import { Experts } from './experts.js'
import { MixtureOfExperts } from './mixture-of-experts.js'

/** One line of the table: a parameter where it is read. */
export interface ParameterRow {
  path: string
  kind: 'dense' | 'table' | 'shared'
  shape: readonly number[]
  parameters: number
  bytes: number
  /** Multiply-adds of a token. */
  multiplyAdds: number
}

/**
 * Multiply-adds of one token with a parameter: each number of a matrix once, of a table those of
 * the rows that are read. Sums and products with vectors (biases, gains) are not counted.
 */
function multiplyAdds(owner: Child, { kind, name, value }: Parameter): number {
  if (isInstance(owner, Embedding)) return 0
  if (owner instanceof TableLayer && kind === 'table') {
    const { heads, knn } = owner.config as { heads: number; knn: number }
    return heads * knn * value.shape[1]!
  }
  if (value.shape.length < 2) return 0
  return Math.round(readsPerToken(owner, name) * value.size)
}

/** How often a token is multiplied by a matrix, on average. */
function readsPerToken(owner: Child, name: string): number {
  if (isInstance(owner, MixtureOfExperts)) return owner.readsPerToken(name)
  return owner instanceof Experts ? owner.readsPerToken : 1
}

/** The parameters of leaves by path; one that stood before is `shared`. */
export function parameterRows(leaves: readonly [string, Child][]): ParameterRow[] {
  const seen = new Set<Tensor>()
  return leaves.flatMap(([path, leaf]) =>
    parametersOf(path, leaf).map((p): ParameterRow => {
      const { name, value } = p
      const shared = seen.has(value)
      seen.add(value)
      return {
        path: name,
        kind: shared ? 'shared' : p.kind,
        shape: value.shape,
        parameters: shared ? 0 : value.size,
        bytes: shared ? 0 : value.byteLength,
        multiplyAdds: multiplyAdds(leaf, p),
      }
    }),
  )
}

const grouped = new Intl.NumberFormat('en-US')

/** The rows as text, numbers aligned right, with a line of totals. */
export function describeModule(name: string, leaves: readonly [string, Child][]): string {
  const rows = parameterRows(leaves)
  const total = (key: 'parameters' | 'bytes' | 'multiplyAdds') =>
    grouped.format(rows.reduce((sum, row) => sum + row[key], 0))
  const table = [
    ['path', 'kind', 'shape', 'parameters', 'bytes', 'multiply-adds per token'],
    ...rows.map((row) => [
      row.path,
      row.kind,
      formatShape(row.shape),
      grouped.format(row.parameters),
      grouped.format(row.bytes),
      grouped.format(row.multiplyAdds),
    ]),
    [name, 'total', '', total('parameters'), total('bytes'), total('multiplyAdds')],
  ]
  const widths = table[0]!.map((_, column) => Math.max(...table.map((row) => row[column]!.length)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, column) =>
        column < 3 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join('  ')
      .trimEnd()
  return table.map(line).join('\n')
}

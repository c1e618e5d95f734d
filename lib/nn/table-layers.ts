import { TableLayer } from '../layer.js'

const maxDepth = 32

/**
 * The memory and PEER layers of a model by their place in it, found by its own properties as the
 * modules of a `Module` are: `blocks.4.memory`.
 */
export function tableLayers(model: object): Map<string, TableLayer> {
  const found = new Map<string, TableLayer>()
  const seen = new Set<unknown>()
  const visit = (value: unknown, path: string, depth: number) => {
    if (typeof value !== 'object' || value === null || seen.has(value) || depth > maxDepth) return
    seen.add(value)
    if (value instanceof TableLayer) {
      found.set(path, value)
      return
    }
    if (ArrayBuffer.isView(value)) return
    for (const [key, { value: child }] of Object.entries(Object.getOwnPropertyDescriptors(value)))
      visit(child, path ? `${path}.${key}` : key, depth + 1)
  }
  visit(model, '', 0)
  return found
}

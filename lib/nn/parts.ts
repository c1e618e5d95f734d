import { Device } from '../device.js'
import { Tensor } from '../tensor.js'

const maxDepth = 32

/**
 * Objects of a kind in a model, by their place in it: found by its own properties, as the children
 * of a `Module` are (`blocks.4.memory`), each once. The model itself has the place ''.
 */
export function partsOf<T extends object>(
  model: unknown,
  isPart: (value: object) => value is T,
): Map<string, T> {
  const found = new Map<string, T>()
  const seen = new Set<unknown>()
  const visit = (value: unknown, path: string, depth: number) => {
    if (typeof value !== 'object' || value === null || seen.has(value) || depth > maxDepth) return
    seen.add(value)
    if (ArrayBuffer.isView(value) || Tensor.is(value) || Device.is(value)) return
    if (isPart(value)) found.set(path, value)
    for (const [key, { value: child }] of Object.entries(Object.getOwnPropertyDescriptors(value)))
      visit(child, path ? `${path}.${key}` : key, depth + 1)
  }
  visit(model, '', 0)
  return found
}

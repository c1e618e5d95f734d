import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { expect, test, vi } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))

test('binding.d.ts names exactly what the addon exports', () => {
  const native = createRequire(import.meta.url)('node-gyp-build')(root) as Record<string, unknown>
  const declared = [
    ...readFileSync(`${root}/binding.d.ts`, 'utf8').matchAll(/^export function (\w+)/gm),
  ].map((m) => m[1]!)
  expect(Object.keys(native).sort()).toEqual([...declared].sort())
})

test('a handle of the wrong kind is refused', async () => {
  const { native } = await import('../lib/binding.js')
  const device = native.openDevice('cpu', 1)
  for (const wrong of [{}, null, 3, device]) {
    expect(() => native.tensorDispose(wrong as never)).toThrowError(
      expect.objectContaining({ code: 'ERR_VALUE' }),
    )
  }
})

test('errors of the addon are instances of the class of every copy of the package', async () => {
  const copy = async () => {
    vi.resetModules()
    return import('../lib/index.js')
  }
  const copies = [await copy(), await copy()]
  expect(copies[0]!.MemoryLayersError).not.toBe(copies[1]!.MemoryLayersError)
  for (const { openDevice, ops } of copies) {
    const device = openDevice('cpu')
    let error: unknown
    try {
      ops.softmax(device.zeros([2], 'int32'))
    } catch (e) {
      error = e
    }
    for (const { MemoryLayersError } of copies) {
      expect(error).toBeInstanceOf(MemoryLayersError)
      expect(new Error('other')).not.toBeInstanceOf(MemoryLayersError)
      class Derived extends MemoryLayersError {}
      expect(error).not.toBeInstanceOf(Derived)
    }
  }
})

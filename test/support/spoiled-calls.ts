import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Device, MemoryLayersError, ops } from '../../lib/index.js'
import { junk } from './junk.js'

/** Arguments that are right, and the call that takes them. */
export type Call = [args: unknown[], call: (...args: never[]) => unknown]

/** The arguments with one of them, or one of its properties, replaced. */
function spoil(args: unknown[], index: number, deep: boolean, property: number, value: unknown) {
  const at = index % args.length
  const spoilt = [...args]
  const original = args[at]
  const names =
    deep && Object.getPrototypeOf(original ?? 0) === Object.prototype ? Object.keys(original!) : []
  spoilt[at] = names.length
    ? { ...(original as object), [names[property % names.length]!]: value }
    : value
  return spoilt
}

/** Whatever an argument is: the call works or is refused, and the device goes on. */
export function testSpoiledCalls(device: Device, calls: Record<string, Call>): void {
  const runs = device.kind === 'cpu' ? 100 : 10

  describe.each(Object.entries(calls))('%s', (_, [args, call]) => {
    test('takes it, or throws a MemoryLayersError', async () => {
      const arbitrary = fc.tuple(fc.nat(20), fc.boolean(), fc.nat(20), junk(device))
      await fc.assert(
        fc.asyncProperty(arbitrary, async ([at, deep, property, value]) => {
          try {
            await call(...(spoil(args, at, deep, property, value()) as never[]))
            await device.synchronize()
          } catch (error) {
            if (!(error instanceof MemoryLayersError)) throw error
            expect(error.message.length).toBeLessThan(1000)
          }
        }),
        { numRuns: runs },
      )
      await device.synchronize().catch(() => {})
      const y = ops.linear(device.tensor([1, 2], [1, 2]), device.tensor([3, 4], [1, 2]))
      expect(await y.data()).toEqual(Float32Array.of(11))
    })
  })
}

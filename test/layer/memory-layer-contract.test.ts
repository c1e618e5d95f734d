// What a memory layer checks: contexts, shapes, options, and what was disposed.

import { describe, expect, test } from 'vitest'
import { type ErrorCode, MemoryLayer, openDevice, ValueTable } from '../../lib/index.js'
import { testDevices } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { gradientsOf, small } from '../support/layers.js'

describe.each(testDevices)('on %s', (name) => {
  const device = openDevice(name)
  const x = () => device.normal([5, 12], { seed: 1 })
  const dy = () => device.normal([5, 12], { seed: 2 })

  test('two contexts may be pending, and used in any order', async () => {
    const layer = new MemoryLayer(device, small)
    const first = layer.forward(device.normal([3, 12], { seed: 8 }))
    const second = layer.forward(x())
    expect(layer.backward(second.context, dy()).shape).toEqual([5, 12])
    const dyOfFirst = device.normal([3, 12], { seed: 9 })
    expect(layer.backward(first.context, dyOfFirst).shape).toEqual([3, 12])
  })

  test('a dy of another shape changes nothing, and the context can still be used', async () => {
    const layer = new MemoryLayer(device, small)
    const { context } = layer.forward(x())
    const before = await gradientsOf(layer.parameters())

    const message = await errorOf('ERR_SHAPE', () => layer.backward(context, device.zeros([4, 12])))
    expect(message).toContain('"dy"')
    expect(message).toContain('[5, 12]')
    await errorOf('ERR_SHAPE', () => layer.backward(context, device.zeros([5, 11])))
    await errorOf('ERR_DTYPE', () => layer.backward(context, device.zeros([5, 12], 'int32')))

    expect(await gradientsOf(layer.parameters())).toEqual(before)
    expect(layer.values.pendingReads).toBe(0)
    layer.backward(context, dy())
  })

  test('a spent, disposed or foreign context is ERR_CONTEXT', async () => {
    const layer = new MemoryLayer(device, small)
    const { context } = layer.forward(x())
    await errorOf('ERR_CONTEXT', () => new MemoryLayer(device, small).backward(context, dy()))
    await errorOf('ERR_CONTEXT', () => layer.backward({} as never, dy()))
    layer.backward(context, dy())
    const message = await errorOf('ERR_CONTEXT', () => layer.backward(context, dy()))
    expect(message).toMatch(/^MemoryLayer\.backward/)
    const disposed = layer.forward(x()).context
    disposed.dispose()
    await errorOf('ERR_CONTEXT', () => layer.backward(disposed, dy()))
  })

  test('the message of a wrong shape names operation, argument and both shapes', async () => {
    const layer = new MemoryLayer(device, small)
    const message = await errorOf('ERR_SHAPE', () => layer.forward(device.zeros([256, 64])))
    expect(message).toMatch(/^MemoryLayer\.forward: "x"/)
    expect(message).toContain('[tokens, 12]')
    expect(message).toContain('got [256, 64]')
    expect(message).toContain('inputDim 12')
  })

  test('inputs are checked', async () => {
    const layer = new MemoryLayer(device, small)
    await errorOf('ERR_SHAPE', () => layer.infer(new Float32Array(13)))
    await errorOf('ERR_DTYPE', () => layer.forward(device.zeros([2, 12], 'bfloat16')))
    await errorOf('ERR_DTYPE', () => layer.forward(new BigInt64Array(12) as never))
    const message = await errorOf('ERR_DTYPE', () => layer.forward('x' as never))
    expect(message).toMatch(/"x" .*Tensor.* got x/)
    await errorOf('ERR_DEVICE_MISMATCH', () =>
      layer.forward(openDevice('cpu', { threads: 3 }).zeros([2, 12])),
    )
    const disposed = x()
    disposed.dispose()
    await errorOf('ERR_DISPOSED', () => layer.forward(disposed))
  })

  test('options are checked', async () => {
    const table = (slots: number, owner = device) => new ValueTable(owner, { slots, dim: 12 })
    const bad: [object, ErrorCode, RegExp][] = [
      [{ head: 2 }, 'ERR_OPTION', /"heads"/],
      [{ heads: 0 }, 'ERR_VALUE', /"heads"/],
      [{ inputDim: undefined }, 'ERR_VALUE', /"inputDim"/],
      [{ keyDim: 7 }, 'ERR_VALUE', /even/],
      [{ nKeys: 50_000 }, 'ERR_VALUE', /"nKeys"/],
      [{ gate: 'swilu' }, 'ERR_VALUE', /'silu'/],
      [{ outputGate: 1 }, 'ERR_VALUE', /"outputGate"/],
      [{ dtype: 'int8' }, 'ERR_VALUE', /^MemoryLayer: "dtype"/],
      [{ queryNorm: 'rm' }, 'ERR_VALUE', /'rms'/],
      [{ values: {} }, 'ERR_VALUE', /ValueTable/],
      [{ values: table(35) }, 'ERR_SHAPE', /36 slots/],
      [{ values: table(36), valueDim: 8 }, 'ERR_SHAPE', /dim 8/],
      [{ values: table(36, openDevice('cpu', { threads: 3 })) }, 'ERR_DEVICE_MISMATCH', /"values"/],
    ]
    for (const [option, code, message] of bad) {
      const make = () => new MemoryLayer(device, { ...small, ...option } as never)
      expect(await errorOf(code, make)).toMatch(message)
    }
    await errorOf('ERR_DEVICE', () => new MemoryLayer({} as never, small))
  })

  test('a disposed layer is refused', async () => {
    const layer = new MemoryLayer(device, small)
    layer.backward(layer.forward(x()).context, dy())
    layer.dispose()
    await errorOf('ERR_DISPOSED', () => layer.forward(x()))
  })

  test('a disposed table is named', async () => {
    const values = new ValueTable(device, { slots: 36, dim: 12 })
    const layer = new MemoryLayer(device, { ...small, values })
    values.dispose()
    expect(await errorOf('ERR_DISPOSED', () => layer.forward(x()))).toMatch(/table/)
  })
})

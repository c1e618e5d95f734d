import { afterEach, describe, expect, test, vi } from 'vitest'
import { devices, openDevice } from '../lib/index.js'
import { errorOf } from './support/errors.js'

afterEach(() => vi.unstubAllEnvs())

test('devices() lists the CPU as available, and why other devices are not', () => {
  const list = devices()
  expect(list.find((d) => d.name === 'cpu')).toMatchObject({ kind: 'cpu', available: true })
  expect(list.find((d) => d.name === 'cpu')!.totalMemory).toBeGreaterThan(2 ** 28)
  for (const d of list) if (!d.available) expect(d.reason).toMatch(/\w+/)
})

describe('openDevice', () => {
  test('auto says why it chose its device', () => {
    vi.stubEnv('MEMORY_LAYERS_DEVICE', '')
    const device = openDevice()
    expect(device.reason).toMatch(/GPU/)
    const gpu = devices().some((d) => d.kind === 'cuda' && d.available)
    expect(device.kind).toBe(gpu ? 'cuda' : 'cpu')
    expect(device.description).toMatch(gpu ? /sm_\d+, \d+ multiprocessors$/ : /\d+ threads?$/)
  })

  test('MEMORY_LAYERS_DEVICE overrides auto, and an error names it', async () => {
    vi.stubEnv('MEMORY_LAYERS_DEVICE', 'cpu')
    expect(openDevice('auto').kind).toBe('cpu')
    vi.stubEnv('MEMORY_LAYERS_DEVICE', 'cpx')
    const message = await errorOf('ERR_DEVICE', () => openDevice())
    expect(message).toMatch(/"cpx" \(from MEMORY_LAYERS_DEVICE\)/)
    expect(message).toMatch(/"cpu"/)
  })

  test('an absent device is an error, never another device', async () => {
    for (const d of devices()) {
      if (!d.available)
        expect(await errorOf('ERR_DEVICE', () => openDevice(d.name as 'cuda'))).toContain(d.reason!)
    }
    await errorOf('ERR_DEVICE', () => openDevice('cuda:7'))
    for (const other of [3, null]) await errorOf('ERR_DEVICE', () => openDevice(other as never))
  })

  test('threads is checked, and a misspelt option is named', async () => {
    expect(openDevice('cpu', { threads: 1 }).description).toMatch(/\b1 thread$/)
    await errorOf('ERR_VALUE', () => openDevice('cpu', { threads: 0 }))
    await errorOf('ERR_VALUE', () => openDevice('cpu', { threads: 1.5 }))
    expect(await errorOf('ERR_OPTION', () => openDevice('cpu', { thread: 1 } as never))).toMatch(
      /"threads"/,
    )
  })
})

test('memory() counts tensors, and a freed block serves the next tensor', async () => {
  const device = openDevice('cpu')
  const before = device.memory()
  const t = device.zeros([1000, 100])
  const during = device.memory()
  expect(during.allocated - before.allocated).toBeGreaterThanOrEqual(400_000)
  expect(during.allocated - before.allocated).toBeLessThan(460_000)
  t.dispose()
  expect(device.memory().allocated).toBe(before.allocated)
  expect(device.memory().reserved).toBe(during.reserved)
  device.zeros([1000, 100]).dispose()
  expect(device.memory().reserved).toBe(during.reserved)
  expect(device.memory().peak).toBe(during.allocated)
  await device.synchronize()
})

test('a tensor larger than the memory is ERR_OUT_OF_MEMORY, and nothing changes', async () => {
  const device = openDevice('cpu')
  const before = device.memory()
  const message = await errorOf('ERR_OUT_OF_MEMORY', () => device.empty([2 ** 24, 2 ** 20]))
  expect(message).toMatch(/\b\d{14} bytes/)
  expect(device.memory()).toEqual(before)
})

test('the event loop runs while the device works', async () => {
  const device = openDevice('cpu', { threads: 1 })
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const x = device.normal([4_000_000], { seed: 1 })
  for (let i = 0; i < 40; i++) device.normal([4_000_000], { seed: i }).dispose()
  const start = performance.now()
  await device.synchronize()
  const waited = performance.now() - start
  clearInterval(timer)
  x.dispose()
  if (waited > 50) expect(ticks).toBeGreaterThan(waited / 20)
})

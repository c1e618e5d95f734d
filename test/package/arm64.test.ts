import { beforeAll, describe, expect, test } from 'vitest'
import { installed, program, run } from './support.js'

type Numbers = Record<string, number[] | string>

let folder: string
let wanted: Numbers
beforeAll(() => {
  folder = installed()
  const { status, stdout, output } = run(folder, 'node', ['numbers.mjs'])
  expect(status, output).toBe(0)
  wanted = JSON.parse(stdout)
})

const qemu = { PATH: process.env['PATH'], QEMU_LD_PREFIX: '/usr/aarch64-linux-gnu' }

/** The largest, relative to the maximum of the tensor: sums of another order differ in rounding. */
function difference(a: number[], b: number[]): number {
  const scale = Math.max(1e-6, ...a.map(Math.abs))
  return a.length === b.length
    ? Math.max(...a.map((v, i) => Math.abs(v - b[i]!))) / scale
    : Number.POSITIVE_INFINITY
}

// qemu's `max` has every extension that it knows; a Cortex-A72 has none beyond ARMv8.0.
describe.each(['max', 'cortex-a72'])('linux-arm64 on %s', (cpu) => {
  test('computes what linux-x64 computes', () => {
    const { status, stdout, stderr } = run(
      folder,
      'qemu-aarch64-static',
      ['-cpu', cpu, program('NODE_ARM64'), 'numbers.mjs'],
      qemu,
    )
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const got: Numbers = JSON.parse(stdout)
    expect(got['description']).toMatch(/neon, \d+ threads?$/)
    expect(Object.keys(got)).toEqual(Object.keys(wanted))
    expect(Object.keys(got).length).toBeGreaterThan(60)
    for (const [name, values] of Object.entries(wanted)) {
      if (typeof values === 'string') continue
      if (/indices|rounding/.test(name)) expect(got[name], name).toEqual(values)
      else expect(difference(values, got[name] as number[]), name).toBeLessThan(2e-5)
    }
  })

  test('its doctor says that this binary has no CUDA', () => {
    const cli = 'node_modules/memory-layers/dist/cli.js'
    const { stdout } = run(
      folder,
      'qemu-aarch64-static',
      ['-cpu', cpu, program('NODE_ARM64'), cli, '--probe'],
      qemu,
    )
    const { devices, sets } = JSON.parse(stdout)
    expect(sets).toEqual(['neon'])
    expect(devices.find((d: { kind: string }) => d.kind === 'cuda')).toMatchObject({
      available: false,
      reason: expect.stringMatching(/without the CUDA/),
    })
  })

  // Ending a worker in the middle of its work is tested without emulation
  // (install.test.ts).
  test('trains in worker threads', () => {
    const { status, stdout, stderr } = run(
      folder,
      'qemu-aarch64-static',
      ['-cpu', cpu, program('NODE_ARM64'), 'workers.mjs', 'calm'],
      qemu,
    )
    expect({ status, stdout: stdout.trim(), stderr }).toEqual({
      status: 0,
      stdout: '{"same":true}',
      stderr: '',
    })
  })
})

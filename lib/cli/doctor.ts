// npx memory-layers doctor: what this machine has, which binary is used, which devices work, and
// why one does not.

import { statSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { relative } from 'node:path'
import { findBinary, noBinary, platform, prebuilds, root } from '../binary.js'
import type { DeviceInfo } from '../binding.js'
import { driver } from './driver.js'
import { type Probe, probe } from './probe.js'
import { entry, print } from './text.js'
import { toolchain } from './toolchain.js'

const settings = [
  'MEMORY_LAYERS_DEVICE',
  'MEMORY_LAYERS_ISA',
  'MEMORY_LAYERS_PREBUILD',
  'PREBUILDS_ONLY',
  'CUDA_VISIBLE_DEVICES',
] as const

/** Exit code 0 if the CPU can be used, 1 if no binary works. */
export function doctor(version: string): number {
  print(`memory-layers ${version}\n`)
  print(
    entry('Platform', `${platform()} (Node-API ${process.versions['napi']}), kernel ${release()}`),
  )
  print(
    entry(
      'Processor',
      `${cpus()[0]?.model.trim() ?? 'unknown'}, ${count(availableParallelism(), 'thread')}`,
    ),
  )
  print(entry('Memory', gigabytes(totalmem())))
  print(entry('Package', root))
  print(entry('Prebuilt', prebuilds().join(', ') || 'none in this package'))

  const file = findBinary()
  print(
    entry(
      'Binary',
      file ? `${relative(root, file)} (${(statSync(file).size / 1e6).toFixed(1)} MB)` : 'none',
    ),
  )
  const set = settings.filter((name) => process.env[name] !== undefined)
  if (set.length > 0)
    print(entry('Settings', set.map((name) => `${name}=${process.env[name]}`).join('\n')))

  if (!file) return withoutBinary(noBinary(undefined))
  const result = probe()
  if ('problem' in result) return withoutBinary(result.problem)
  return withBinary(result.found)
}

function withBinary({ devices, sets }: Probe): number {
  print(
    entry(
      'Code for',
      `${sets.join(', ')} (the first is used unless MEMORY_LAYERS_ISA names another)`,
    ),
  )
  print('')
  for (const device of devices) print(entry(device.name, describe(device)))
  const gpu = devices.some((d) => d.kind === 'cuda' && d.available)
  if (devices.some((d) => /built without/.test(d.reason ?? ''))) {
    print(entry('', 'With nvcc on the path, npx memory-layers build compiles one that has it.'))
  } else if (process.platform === 'linux') {
    nvidia(gpu)
  }
  const cpu = devices.some((d) => d.kind === 'cpu' && d.available)
  print(
    `\n${gpu ? 'The GPU and the CPU can be used.' : cpu ? 'The CPU can be used; no GPU can.' : 'No device can be used.'}`,
  )
  return cpu ? 0 : 1
}

function describe(device: DeviceInfo): string {
  if (!device.available) return `not usable: ${device.reason ?? 'no reason is known'}`
  return `usable: ${device.description}${device.totalMemory > 0 ? `, ${gigabytes(device.totalMemory)}` : ''}`
}

/** What the system shows of the driver, and what is in the way of a GPU if none is usable. */
function nvidia(usable: boolean): void {
  const { version, gpus, library, problem } = driver()
  print(entry('', `driver: ${version ?? 'none'}`))
  print(entry('', `GPUs: ${gpus.join(', ') || 'none'}`))
  print(entry('', `libcuda.so.1: ${library ?? 'not found'}`))
  if (problem && !usable) print(entry('', `To use a GPU: ${problem}`))
}

function withoutBinary(problem: string): number {
  const { lines, missing } = toolchain()
  print(`\n${problem.startsWith('memory-layers: ') ? problem : `memory-layers: ${problem}`}\n`)
  print('To compile it here:')
  for (const [tool, found] of lines) print(entry(`  ${tool}`, found, 16))
  if (missing) print(`\n${missing}`)
  if (process.platform === 'linux') {
    print('')
    nvidia(false)
  }
  return 1
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`
}

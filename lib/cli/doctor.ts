// npx memory-layers doctor: what this machine has, which binary is used, which devices work, and
// why one does not.

import { statSync } from 'node:fs'
import { availableParallelism, cpus, release, totalmem } from 'node:os'
import { relative } from 'node:path'
import { findBinary, noBinary, platform, prebuilds, root } from '../binary.js'
import type { DeviceInfo } from '../binding.js'
import { findDriver } from './driver.js'
import { probeTransport } from './mpi.js'
import { type CudaToolkit, type Probe, probe } from './probe.js'
import { formatEntry, print } from './text.js'
import { toolchain } from './toolchain.js'

const settings = [
  'MEMORY_LAYERS_DEVICE',
  'MEMORY_LAYERS_ISA',
  'MEMORY_LAYERS_PREBUILD',
  'MEMORY_LAYERS_MPI',
  'PREBUILDS_ONLY',
  'CUDA_VISIBLE_DEVICES',
] as const

/** Exit code 0 if the CPU can be used, 1 if no binary works. */
export function doctor(version: string): number {
  print(`memory-layers ${version}\n`)
  print(
    formatEntry(
      'Platform',
      `${platform()} (Node-API ${process.versions['napi']}), kernel ${release()}`,
    ),
  )
  print(
    formatEntry(
      'Processor',
      `${cpus()[0]?.model.trim() ?? 'unknown'}, ${count(availableParallelism(), 'thread')}`,
    ),
  )
  print(formatEntry('Memory', gigabytes(totalmem())))
  print(formatEntry('Package', root))
  print(formatEntry('Prebuilt', prebuilds().join(', ') || 'none in this package'))

  const file = findBinary()
  print(
    formatEntry(
      'Binary',
      file ? `${relative(root, file)} (${(statSync(file).size / 1e6).toFixed(1)} MB)` : 'none',
    ),
  )
  const set = settings.filter((name) => process.env[name] !== undefined)
  if (set.length > 0)
    print(formatEntry('Settings', set.map((name) => `${name}=${process.env[name]}`).join('\n')))

  if (!file) return reportProblem(noBinary(undefined))
  const result = probe()
  if ('problem' in result) return reportProblem(result.problem)
  return reportDevices(result.found)
}

function reportDevices({ devices, sets, cuda }: Probe): number {
  print(
    formatEntry(
      'Code for',
      `${sets.join(', ')} (the first is used unless MEMORY_LAYERS_ISA names another)`,
    ),
  )
  if (cuda)
    print(formatEntry('CUDA', `${cuda.version}, which needs driver ${cuda.driver} or newer`))
  print('')
  for (const device of devices) print(formatEntry(device.name, describe(device)))
  const gpu = devices.some((d) => d.kind === 'cuda' && d.available)
  if (devices.some((d) => /built without/.test(d.reason ?? ''))) {
    print(
      formatEntry('', 'With nvcc on the path, npx memory-layers build compiles one that has it.'),
    )
  } else if (process.platform === 'linux') {
    printDriver(gpu, cuda)
  }
  print(formatEntry('MPI', describeMpi()))
  const cpu = devices.some((d) => d.kind === 'cpu' && d.available)
  const withoutGpu = cpu ? 'The CPU can be used; no GPU can.' : 'No device can be used.'
  print(`\n${gpu ? 'The GPU and the CPU can be used.' : withoutGpu}`)
  return cpu ? 0 : 1
}

function describe(device: DeviceInfo): string {
  if (!device.available) return `not usable: ${device.reason ?? 'no reason is known'}`
  const memory = device.totalMemory > 0 ? `, ${gigabytes(device.totalMemory)}` : ''
  return `usable: ${device.description}${memory}`
}

function describeMpi(): string {
  const found = probeTransport()
  if (!found) return 'not built: npx memory-layers build --mpi compiles the addon for it'
  return 'library' in found ? `usable: ${found.library}` : `not usable: ${found.problem}`
}

/** Prints what the system shows of the driver, and why no GPU is usable if none is. */
function printDriver(usable: boolean, toolkit?: CudaToolkit): void {
  const { version, gpus, library, problem } = findDriver(toolkit)
  print(formatEntry('', `driver: ${version ?? 'none'}`))
  print(formatEntry('', `GPUs: ${gpus.join(', ') || 'none'}`))
  print(formatEntry('', `libcuda.so.1: ${library ?? 'not found'}`))
  if (problem && !usable) print(formatEntry('', `To use a GPU: ${problem}`))
}

function reportProblem(problem: string): number {
  const { lines, missing } = toolchain()
  print(`\n${problem.startsWith('memory-layers: ') ? problem : `memory-layers: ${problem}`}\n`)
  print('To compile it here:')
  for (const { tool, found } of lines) print(formatEntry(`  ${tool}`, found, 16))
  if (missing) print(`\n${missing}`)
  if (process.platform === 'linux') {
    print('')
    printDriver(false)
  }
  return 1
}

function count(n: number, what: string): string {
  return `${n} ${what}${n === 1 ? '' : 's'}`
}

function gigabytes(bytes: number): string {
  return `${(bytes / 1e9).toFixed(1)} GB`
}

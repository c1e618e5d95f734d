// The NVIDIA driver as the files of the system show it, without loading any of its libraries.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import type { CudaToolkit } from './probe.js'

/** Of a release's binary. */
const released: CudaToolkit = { version: '13.0', driver: 580 }

export interface Driver {
  /** '580.65.06', or undefined if no driver is loaded. */
  version: string | undefined
  /** Models, by the driver's own list. */
  gpus: string[]
  /** The path of libcuda.so.1, the driver's library that the CUDA backend opens. */
  library: string | undefined
  /** Why no GPU can be used, as far as files show it, and what to do; undefined if one can. */
  problem: string | undefined
}

/** `system` is the root of the file system; tests have one of their own. */
export function findDriver(
  toolkit: CudaToolkit = released,
  system = '/',
  env: NodeJS.ProcessEnv = process.env,
): Driver {
  const version = /Kernel Module(?: for \S+)?\s+(\d+(?:\.\d+)+)/.exec(
    read(join(system, 'proc/driver/nvidia/version')),
  )?.[1]
  const folder = join(system, 'proc/driver/nvidia/gpus')
  const gpus = list(folder).map(
    (gpu) => /Model:\s*(.+)/.exec(read(join(folder, gpu, 'information')))?.[1]?.trim() ?? gpu,
  )
  const wsl = existsSync(join(system, 'dev/dxg'))
  const library = libraryFolders(system, env)
    .map((f) => join(f, 'libcuda.so.1'))
    .find((f) => existsSync(f))
  return {
    version,
    gpus,
    library,
    problem: findProblem(toolkit, version, gpus, library, wsl, env['CUDA_VISIBLE_DEVICES']),
  }
}

function findProblem(
  toolkit: CudaToolkit,
  version: string | undefined,
  gpus: readonly string[],
  library: string | undefined,
  wsl: boolean,
  visible: string | undefined,
): string | undefined {
  if (!version && !wsl) {
    return (
      `no NVIDIA driver is loaded. Install driver ${toolkit.driver} or newer, which the binary's ` +
      `CUDA ${toolkit.version} needs; ` +
      "a container gets the host's with: docker run --gpus all"
    )
  }
  if (version && Number.parseInt(version, 10) < toolkit.driver) {
    const older =
      toolkit.driver > 525
        ? ' Or compile a binary for drivers from 525 on, with the nvcc of CUDA 12.4 to 12.9 on ' +
          'the path: npx memory-layers build --cuda on'
        : ''
    return (
      `driver ${version}${gpus.length > 0 ? ` of ${gpus.join(', ')}` : ''} is too old for the ` +
      `binary's CUDA ${toolkit.version}. Install ${toolkit.driver} or newer.${older}`
    )
  }
  if (!library) {
    return (
      "the driver's library libcuda.so.1 was not found. In a container: " +
      'docker run --gpus all, with NVIDIA_DRIVER_CAPABILITIES=compute,utility'
    )
  }
  if (visible === '' || visible === '-1')
    return `CUDA_VISIBLE_DEVICES is "${visible}", which hides every GPU. Unset it.`
  return undefined
}

function libraryFolders(system: string, env: NodeJS.ProcessEnv): string[] {
  const usual = [
    'usr/lib/x86_64-linux-gnu',
    'usr/lib/aarch64-linux-gnu',
    'usr/lib64',
    'usr/lib',
    'usr/lib/wsl/lib',
    'usr/local/nvidia/lib64',
  ]
  return [
    ...(env['LD_LIBRARY_PATH'] ?? '').split(':').filter(Boolean),
    ...usual.map((f) => join(system, f)),
  ]
}

function read(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}

function list(folder: string): string[] {
  try {
    return readdirSync(folder)
  } catch {
    return []
  }
}

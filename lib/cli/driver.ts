// The NVIDIA driver as the files of the system show it, without loading any of its libraries.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** The first driver that runs CUDA 13. */
export const minDriver = 580

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
export function findDriver(system = '/', env: NodeJS.ProcessEnv = process.env): Driver {
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
    problem: findProblem(version, library, wsl, env['CUDA_VISIBLE_DEVICES']),
  }
}

function findProblem(
  version: string | undefined,
  library: string | undefined,
  wsl: boolean,
  visible: string | undefined,
): string | undefined {
  if (!version && !wsl) {
    return (
      `no NVIDIA driver is loaded. Install driver ${minDriver} or newer; ` +
      "a container gets the host's with: docker run --gpus all"
    )
  }
  if (version && Number.parseInt(version, 10) < minDriver) {
    return `driver ${version} is too old for CUDA 13. Install ${minDriver} or newer.`
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

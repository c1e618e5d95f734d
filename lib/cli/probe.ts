// Loads the native binary in a child process: a binary that crashes must not end this process.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { DeviceInfo } from '../binding.js'

export interface CudaToolkit {
  version: string
  driver: number
}

export interface Probe {
  devices: DeviceInfo[]
  /** Instruction sets of this machine that the binary has code for, best first. */
  sets: string[]
  /** The CUDA runtime in the binary, and the first driver that runs it. */
  cuda?: CudaToolkit
}

/** What the binary says, or why it says nothing. */
export function probe(): { found: Probe } | { problem: string } {
  const main = fileURLToPath(import.meta.url)
  const { status, signal, stdout, stderr, error } = spawnSync(process.execPath, [main, '--probe'], {
    encoding: 'utf8',
    timeout: 60_000,
  })
  if (status === 0) return { found: JSON.parse(stdout) }
  if (error) return { problem: `loading it could not be tried: ${error.message}` }
  if (signal) return { problem: `loading it ended the process with ${signal}` }
  return { problem: errorText(stderr) }
}

/** The message out of what Node prints for an uncaught error. */
export function errorText(stderr: string): string {
  const lines = stderr.split('\n')
  const first = lines.findIndex((line) => /^\S*Error\b.*: /.test(line))
  if (first < 0) return stderr.trim()
  const rest = lines.slice(first)
  const end = rest.findIndex((line) => /^ {4}at /.test(line))
  return rest
    .slice(0, end < 0 ? rest.length : end)
    .join('\n')
    .replace(/^\S+( \[\w+\])?: /, '')
    .trim()
}

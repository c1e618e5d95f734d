// The n-th thread cannot be started: each in a process of its own, since threads are started once.
// What opens a device or computes either works with fewer threads, with the same bits, or throws
// ERR_DEVICE, and the process ends by itself.

import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import type { Part } from '../part.js'

const program = fileURLToPath(new URL('./thread-program.ts', import.meta.url))
// More than the threads that the program starts.
const most = 8

export async function failThreads(part: Part): Promise<void> {
  let wanted: string | undefined
  for (let n = most; n >= 0; n--) {
    const { status, signal, stdout, stderr } = spawnSync(
      process.execPath,
      ['--import', 'tsx', program, String(n)],
      { encoding: 'utf8', timeout: 60_000 },
    )
    const last = stdout.trim().split('\n').at(-1) ?? ''
    wanted ??= last // with n beyond all, nothing fails
    part.count('threads that failed')
    part.check(status === 0 && (last === wanted || last === 'ERR_DEVICE'), () => {
      const ended = signal ?? `exit code ${status}`
      return `thread ${n + 1} can't be started: ${ended}, ${last}, wanted ${wanted}\n${stderr}`
    })
  }
}

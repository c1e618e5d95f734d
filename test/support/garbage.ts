import { setTimeout as sleep } from 'node:timers/promises'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { Device } from '../../lib/index.js'

setFlagsFromString('--expose-gc')
const gc = runInNewContext('gc') as () => void

/**
 * The bytes that are allocated when all work has run and what earlier tests dropped has been
 * collected, so that the collector frees none of it later.
 */
export async function settledMemory(device: Device): Promise<number> {
  await device.synchronize()
  for (let unchanged = 0, last = -1; unchanged < 3; ) {
    gc()
    await sleep(2)
    const { allocated } = device.memory()
    unchanged = allocated === last ? unchanged + 1 : 0
    last = allocated
  }
  return device.memory().allocated
}

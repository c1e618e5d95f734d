// Opens a device and computes while the n-th thread cannot be started; prints a digest of the
// result or the code of the error. The next attempt, with threads, must give the result.

import { createHash } from 'node:crypto'
import { MemoryLayersError, openDevice, ops } from '../../../lib/index.js'
import { failNext, stopFailing } from '../../support/failures.js'

async function compute(): Promise<string> {
  const device = openDevice('cpu', { threads: 4 })
  const x = device.normal([256, 256], { seed: 1 })
  const y = await ops.softmax(ops.linear(x, x)).data()
  return createHash('sha256').update(y).digest('hex')
}

failNext({ kind: 'thread', after: Number(process.argv[2]), times: 100 })
let printed: string
try {
  printed = await compute()
} catch (error) {
  if (!(error instanceof MemoryLayersError)) throw error
  printed = error.code
}
stopFailing('thread')
const next = await compute()
if (/^[0-9a-f]{64}$/.test(printed) && printed !== next) throw new Error('the next call differs')
console.log(printed)

// The n-th allocation, file call or CUDA call inside a public call fails, for every n: an error
// with a code or the right result, after an error the state of before to the bit, and the next call
// as if nothing had been.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type DeviceName, devices, openDevice, saveSafetensors } from '../../../lib/index.js'
import { type FailureKind, failNext, failureCalls, stopFailing } from '../../support/failures.js'
import { Part } from '../part.js'
import { calls } from './calls.js'
import { failEach, type Seam } from './each.js'
import { fileSeam } from './file-seam.js'
import { failThreads } from './threads.js'

const part = new Part()
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-failures-'))
const files = { saved: join(folder, 'saved.safetensors'), target: join(folder, 'new.safetensors') }

function nativeSeam(kind: FailureKind, name: string, codes: readonly string[]): Seam {
  return {
    name,
    codes,
    failAfter: (after) => failNext({ kind, after: Math.min(after, 2 ** 40) }),
    stop: () => {
      const n = failureCalls(kind)
      stopFailing(kind)
      return n
    },
  }
}

// A device that cannot be opened is ERR_DEVICE, whatever was missing.
const noMemory = ['ERR_OUT_OF_MEMORY', 'ERR_DEVICE']
const ofHost = [
  nativeSeam('allocation', 'allocations of tensors', noMemory),
  nativeSeam('malloc', 'allocations of host memory', noMemory),
  nativeSeam('file', 'native file calls', ['ERR_FILE_FORMAT']),
  fileSeam,
]
const ofEmulator = [nativeSeam('cuda', 'CUDA calls', ['ERR_CUDA', 'ERR_OUT_OF_MEMORY'])]

const cpu = openDevice('cpu')
{
  using a = cpu.normal([4, 3], { seed: 1 })
  await saveSafetensors(files.saved, { a })
}
await failThreads(part)
// A short run takes a part of the n, which the seed selects.
const short = part.seconds < 120
for (const { name, kind } of devices().filter((d) => d.available && d.kind !== 'cuda')) {
  const device = openDevice(name as DeviceName)
  const simt = kind === 'simt'
  const seams = simt ? [...ofEmulator, ofHost[0]!] : ofHost
  const stride = short ? (simt ? 29 : 5) : 1
  for (const call of calls)
    for (const seam of seams)
      await failEach(part, device, call, seam, files, stride, simt ? 1 : 0.7)
}
rmSync(folder, { recursive: true, force: true })
part.end()

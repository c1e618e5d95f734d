// Begins a save and stops in the middle, until it is killed:
//   node --import tsx test/support/half-a-save.ts PATH

import { writeSync } from 'node:fs'
import { openDevice, saveSafetensors } from '../../lib/index.js'

const [path = ''] = process.argv.slice(2)
const device = openDevice('cpu', { threads: 1 })
await saveSafetensors(
  path,
  { x: device.zeros([6_000_000]) },
  {
    onProgress: () => {
      writeSync(1, 'half\n')
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0)
    },
  },
)

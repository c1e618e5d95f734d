// Runs the programs of a file once: node --import tsx test/torture/programs/replay.ts FILE

import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { openDevice } from '../../../lib/index.js'
import type { Crash } from './crash.js'
import { runProgram } from './run.js'

const { device: name, programs }: Crash = JSON.parse(readFileSync(process.argv[2]!, 'utf8'))
const device = openDevice(name)
const other = openDevice('cpu', { threads: openDevice('cpu').threads + 1 })
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-programs-'))
try {
  await Promise.all(
    programs.map((p) => runProgram(device, other, p, folder, programs.length === 1)),
  )
} finally {
  rmSync(folder, { recursive: true, force: true })
}

// The fuzzers' targets by name, over the built package: what @jazzer.js/core calls, with the
// coverage of dist/.

import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { argumentTarget } from './arguments.mjs'
import { fileTarget } from './file.mjs'

const require = createRequire(import.meta.url)
const ml = require('../../../dist/index.cjs')
// In memory, where there is such a folder: files are flushed.
const place = existsSync('/dev/shm') ? '/dev/shm' : tmpdir()
const folder = mkdtempSync(join(place, 'memory-layers-fuzz-'))
process.on('exit', () => rmSync(folder, { recursive: true, force: true }))

export const file = fileTarget(ml, folder)
const inArguments = argumentTarget(ml, folder)

export { inArguments as arguments }

// The inputs that the fuzzers of `npm run torture` have kept, replayed without a fuzzer: those that
// reach something of their own, and those that once were wrong.

import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import * as ml from '../lib/index.js'

const fuzzers = new URL('./torture/fuzz/', import.meta.url)

type Target = (input: Buffer) => Promise<void>

/** The targets are plain JavaScript, as the fuzzer runs them. */
async function loadTarget(name: string, factory: string, folder: string): Promise<Target> {
  const module = await import(new URL(`${name}.mjs`, fuzzers).href)
  return module[factory](ml, folder)
}

test.each([
  ['file', 'fileTarget'],
  ['arguments', 'argumentTarget'],
])('inputs of the fuzzer of %s', async (name, factory) => {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-fuzz-'))
  const target = await loadTarget(name, factory, folder)
  const corpus = new URL(`corpus/${name}/`, fuzzers)
  const inputs = readdirSync(corpus)
  expect(inputs.length).toBeGreaterThan(20)
  for (const input of inputs) {
    try {
      await target(readFileSync(new URL(input, corpus)))
    } catch (error) {
      expect.fail(`${name}/${input}: ${(error as Error).stack}`)
    }
  }
  rmSync(folder, { recursive: true })
})

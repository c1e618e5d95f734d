// Every code sample of the README and the guides is compiled and run.

import { spawnSync } from 'node:child_process'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { samples, writeSamples } from '../scripts/samples.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
// Inside the package, so that `memory-layers` is the built package itself.
const written = writeSamples(join(root, 'build/samples'))

test('there are samples in the README and in the guides', () => {
  expect(samples().map((s) => s.page)).toContain('README.md')
  expect(samples().length).toBeGreaterThanOrEqual(8)
})

test('samples have no type errors', { timeout: 120_000 }, () => {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(
    { ...config, include: [], files: [] },
    ts.sys,
    root,
  )
  const program = ts.createProgram(
    written.map((s) => s.path),
    { ...options, noEmit: true },
  )
  const problems = ts
    .getPreEmitDiagnostics(program)
    .map((d) => `${d.file?.fileName}: ${ts.flattenDiagnosticMessageText(d.messageText, '\n')}`)
  expect(problems).toEqual([])
})

describe.each(written)('$page', ({ path }) => {
  test('runs, prints something, and warns of nothing', { timeout: 120_000 }, () => {
    const r = spawnSync(process.execPath, ['--import', 'tsx', path], {
      cwd: root,
      encoding: 'utf8',
    })
    expect(
      r.stderr.replace(/\n?=+\nHi, looks like you are running TensorFlow\.js.*?=+\n/s, '').trim(),
    ).toBe('')
    expect(r.status).toBe(0)
    expect(r.stdout.trim()).not.toBe('')
  })
})

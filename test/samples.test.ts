// Every code sample of the README, the guides and the doc comments is compiled and run.

import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import ts from 'typescript'
import { describe, expect, test } from 'vitest'
import { samples, snippets, writeSamples } from '../scripts/samples.mjs'

const root = fileURLToPath(new URL('..', import.meta.url))
// Inside the package, so that `memory-layers` is the built package itself.
const written = writeSamples(join(root, 'build/samples'))
const commentFolder = join(root, 'build/samples/comments')
const ofComments = writeSamples(commentFolder, snippets())

test('there are samples in the README and in the guides', () => {
  expect(samples().map((s) => s.page)).toContain('README.md')
  expect(samples().length).toBeGreaterThanOrEqual(8)
})

test('each class of nn shows how it is used', () => {
  const index = readFileSync(join(root, 'lib/nn/index.ts'), 'utf8')
  const exported = [...index.matchAll(/export (\{[^}]*\}) from '\.\/(.*)\.js'/g)]
  const silent = exported.flatMap(([, names, file]) => {
    const text = readFileSync(join(root, `lib/nn/${file}.ts`), 'utf8')
    const classes = [...text.matchAll(/^export (?:abstract )?class (\w+)/gm)]
      .filter(([, name]) => new RegExp(`\\b(?<!type )${name}\\b`).test(names!))
      .map(([head, name]) => ({ name, before: text.slice(0, text.indexOf(head!)) }))
    return classes.filter(({ before }) => !/ \* ```$(?![\s\S]*^export)/m.test(before))
  })
  expect(silent.map(({ name }) => name)).toEqual([])
})

test('samples have no type errors', { timeout: 120_000 }, () => {
  const { config } = ts.readConfigFile(join(root, 'tsconfig.json'), ts.sys.readFile)
  const { options } = ts.parseJsonConfigFileContent(
    { ...config, include: [], files: [] },
    ts.sys,
    root,
  )
  const program = ts.createProgram(
    [...written, ...ofComments].map((s) => s.path),
    { ...options, noEmit: true, noUnusedLocals: false },
  )
  const problems = ts
    .getPreEmitDiagnostics(program)
    .map((d) => `${d.file?.fileName}: ${ts.flattenDiagnosticMessageText(d.messageText, '\n')}`)
  expect(problems).toEqual([])
})

test('samples of doc comments run, and warn of nothing', { timeout: 120_000 }, () => {
  const program = join(commentFolder, 'all.ts')
  const imports = ofComments.map((s) => `await import('./${basename(s.path)}')`)
  writeFileSync(program, `${imports.join('\n')}\nexport {}\n`)
  const { stderr, status } = spawnSync(process.execPath, ['--import', 'tsx', program], {
    cwd: root,
    encoding: 'utf8',
  })
  expect(stderr.trim()).toBe('')
  expect(status).toBe(0)
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

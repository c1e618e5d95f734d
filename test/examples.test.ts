// Every example runs against the built package, without a warning, and prints what it demonstrates.

import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { temporaryFolder } from './support/files.js'

const root = fileURLToPath(new URL('..', import.meta.url))

const outputs: Record<string, RegExp[]> = {
  'read-a-table.ts': [
    /^on \w+: /,
    /bag 1 \(a row minus itself\): 0 0 0 0 …/,
    /slots of query 0, head 0: \d+ \d+ \d+ \d+\n/,
  ],
  'train-by-hand.ts': [/step 200: loss 0\.0\d+\n/, /of 4096 slots hold/],
  'share-a-table.ts': [
    /^3 reads are queued; together they touch \d+ of 4096 rows/,
    /step 120: loss 0\.\d+, gradient norm 0\.\d+/,
  ],
  'checkpoint-and-resume.ts': [/same bits at step 40: true/],
  'serve-over-http.ts': [
    /50 answers of 64 numbers in fewer batches than questions/,
    /a bad question: 400/,
  ],
  'from-tfjs.ts': [/epoch 40: loss 0\.0\d+, recall (9[5-9]|100)\.\d %/],
  'gpt.ts': [
    /model\.layers\.1\.memory\.values\.weight +table +\[4096, 128\]/,
    /\nstep 30: loss [0-3]\.\d+, all in .+loss\.svg\n.{16,}/s,
  ],
  'gpt-70-lines.ts': [/^\d+ parameters\n/, /\n30 [0-3]\.\d+ /, /held-out [0-9.]+\nThe .{50,}/s],
  'in-a-worker.mjs': [/256 tokens in, 256 out/, /the main thread went on meanwhile: true/],
}

const folder = temporaryFolder()

/** Arguments of programs that would train for long. */
const programArguments: Record<string, string[]> = {
  'gpt.ts': ['README.md', '30', folder],
  'gpt-70-lines.ts': ['train', '30'],
}

const files = readdirSync(`${root}examples`, { withFileTypes: true }).filter((e) => e.isFile())

test('every example is listed here, and shorter than 80 lines', () => {
  expect(files.map((f) => f.name).sort()).toEqual(Object.keys(outputs).sort())
  for (const f of files)
    expect(
      readFileSync(`${root}examples/${f.name}`, 'utf8').split('\n').length,
      f.name,
    ).toBeLessThan(80)
})

test('a small GPT takes at most 70 lines, 60 of PyTorch', () => {
  const lines = readFileSync(`${root}examples/gpt-70-lines.ts`, 'utf8').trimEnd().split('\n')
  expect(lines.length).toBeLessThanOrEqual(70)
})

describe.each(Object.entries(outputs))('%s', (name, wanted) => {
  test('runs and prints its result', { timeout: 120_000 }, () => {
    const loader = name.endsWith('.ts') ? ['--import', 'tsx'] : []
    const program = [...loader, `examples/${name}`, ...(programArguments[name] ?? [])]
    const r = spawnSync(process.execPath, program, {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, GPT_FILE: join(folder, 'gpt.safetensors') },
    })
    // Only the greeting of TensorFlow.js may be on stderr.
    expect(
      r.stderr.replace(/\n?=+\nHi, looks like you are running TensorFlow\.js.*?=+\n/s, '').trim(),
    ).toBe('')
    expect(r.status).toBe(0)
    for (const pattern of wanted) expect(r.stdout).toMatch(pattern)
  })
})

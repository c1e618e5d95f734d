// The demo on the command line, with a few facts.

import { spawnSync } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const out = mkdtempSync(join(tmpdir(), 'memory-layers-demo-'))
afterAll(() => rmSync(out, { recursive: true }))

function demo(...args: string[]) {
  const r = spawnSync(process.execPath, ['--import', 'tsx', 'examples/demo/main.ts', ...args], {
    cwd: root,
    encoding: 'utf8',
    env: { ...process.env, NO_COLOR: '1' },
  })
  return { code: r.status, out: r.stdout, err: r.stderr }
}

describe('npm run demo', () => {
  let run: ReturnType<typeof demo>
  beforeAll(() => {
    run = demo('--facts', '400', '--epochs', '150', '--seed', '3', '--out', out)
  }, 120_000)

  test('trains both models and prints the table, the questions and the attribution', () => {
    expect(run.err.trim()).toBe('')
    expect(run.code).toBe(0)
    expect(run.out).toMatch(/^400 facts, \d+ countries, on cpu/)
    for (const label of ['Memory\\+', 'dense, same epochs', 'dense, same seconds'])
      expect(run.out).toMatch(new RegExp(`\\n  ${label} +\\d+\\.\\d\\d %`))
    expect(run.out).toMatch(/always the largest country +\d+\.\d\d %/)
    expect(run.out.match(/Which country is .+ in\?/g)).toHaveLength(12)
    expect(run.out).toMatch(/GeoNames.*CC BY/)
    expect(run.out).toMatch(/\n {2}150 steps are few: .*\n.*With --epochs 1000 there are 1,000\./)
    const recall = Number(/Memory\+ +(\d+\.\d+) %/.exec(run.out)![1])
    expect(recall).toBeGreaterThan(95)
  })

  test('writes a chart with both panels and every run', () => {
    const svg = readFileSync(join(out, 'recall.svg'), 'utf8')
    expect(svg).toMatch(/^<svg xmlns/)
    for (const text of [
      'epochs',
      'seconds of training',
      'Memory+',
      'dense, same epochs',
      'dense, same seconds',
      'GeoNames',
    ])
      expect(svg).toContain(text)
    expect(svg.match(/<path/g)!.length).toBeGreaterThanOrEqual(6)
    expect(svg).not.toContain('NaN')
  })

  test('--ask answers from the checkpoint', () => {
    expect(existsSync(join(out, 'checkpoint.safetensors'))).toBe(true)
    const name = /Which country is (.+) in\? {2}Memory\+: (.+?) {3}dense/.exec(run.out)!
    const answer = demo('--ask', name[1]!, '--out', out)
    expect(answer.code).toBe(0)
    expect(answer.out).toContain(`Memory+: ${name[2]!.replace(' ✗', '')}`)
    expect(answer.out).toMatch(/truth: +\w+/)
  })

  test('--profile prints the share of each operation in a training step', () => {
    const short = demo(
      '--facts',
      '400',
      '--epochs',
      '2',
      '--profile',
      '--out',
      join(out, 'profile'),
    )
    expect(short.err.trim()).toBe('')
    for (const name of ['product_key_lookup', 'embedding_bag', 'linear_backward', 'sparse_update'])
      expect(short.out).toMatch(
        new RegExp(`\\n    ${name} +\\d+\\.\\d +\\d+\\.\\d{3} +\\d+\\.\\d %`),
      )
    const [profile] = short.out.split('whole step')
    const shares = [...profile!.matchAll(/(\d+\.\d) %\n/g)].map((m) => Number(m[1]))
    const sum = shares.reduce((a, b) => a + b, 0)
    expect(sum).toBeGreaterThan(99)
    expect(sum).toBeLessThan(102)
  })

  test('an unknown name, a missing checkpoint and a bad flag print one sentence', () => {
    const cases: [string[], RegExp][] = [
      [
        ['--ask', 'Nowhereville', '--out', out],
        /^"Nowhereville" is not among the 400 names this checkpoint was taught\.$/,
      ],
      [
        ['--ask', 'Kyoto', '--out', join(out, 'none')],
        /^There is no checkpoint at .* run `npm run demo` first/,
      ],
      [['--fact', '3'], /^Unknown option '--fact'; --help lists the options\.$/],
      [['--epochs', '0'], /^--epochs must be an integer from 1, got "0"\.$/],
      [['--device', 'cpx'], /^openDevice: device "cpx" can't be had/],
    ]
    for (const [args, message] of cases) {
      const r = demo(...args)
      expect(r.code, args.join(' ')).not.toBe(0)
      expect(r.out).toBe('')
      expect(r.err.trim()).toMatch(message)
      expect(r.err).not.toContain('    at ')
    }
  })

  test('--help', () => {
    const r = demo('--help')
    expect(r.code).toBe(0)
    for (const flag of ['--facts', '--epochs', '--seed', '--ask', '--device', '--out'])
      expect(r.out).toContain(flag)
  })
})

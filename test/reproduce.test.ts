// npm run reproduce, of few facts: its figures, a kill on the way, and a second run.

import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { describe, expect, test } from 'vitest'
import { factSet, namedFacts } from '../examples/reproduce/facts.js'
import { claims } from '../examples/reproduce/report-facts.js'
import { Runs } from '../examples/reproduce/runs.js'
import type { Measured } from '../examples/reproduce/study-facts.js'
import { multiplyAdds, slotSystems, systems } from '../examples/reproduce/systems.js'
import type { Trained } from '../examples/reproduce/train.js'
import { temporaryFolder } from './support/files.js'

const root = fileURLToPath(new URL('..', import.meta.url))

function start(runs: string): ChildProcess {
  const command = ['--import', 'tsx', 'examples/reproduce/main.ts', '--size', 'sample']
  return spawn(process.execPath, [...command, '--runs', runs], { cwd: root, stdio: 'ignore' })
}

async function finish(runs: string): Promise<void> {
  const [code] = await once(start(runs), 'exit')
  expect(code).toBe(0)
}

const finished = (runs: string) =>
  existsSync(runs) ? readdirSync(runs).filter((file) => file.endsWith('.json')) : []

/** The runs of a folder, without their times. */
function figures(runs: string): Record<string, { recall: number[]; parameters: number }> {
  return Object.fromEntries(
    finished(runs).map((file) => {
      const { key, result } = JSON.parse(readFileSync(join(runs, file), 'utf8'))
      const { points, parameters } = result as Trained
      const shape = key.shape.kind === 'dense' ? `dense ${key.shape.hidden}` : key.shape.kind
      return [shape, { recall: points.map((p) => p.recall), parameters }]
    }),
  )
}

test('goes on after a kill, and has the same figures again', { timeout: 180_000 }, async () => {
  const [a, b] = [join(temporaryFolder(), 'a'), join(temporaryFolder(), 'b')]
  const killed = start(a)
  while (finished(a).length === 0 && killed.exitCode === null) await setTimeout(50)
  killed.kill('SIGKILL')
  if (killed.exitCode === null && killed.signalCode === null) await once(killed, 'exit')
  const kept = finished(a).map((file) => readFileSync(join(a, file), 'utf8'))
  expect(kept.length).toBeGreaterThan(0)
  await finish(a)
  const texts = finished(a).map((file) => readFileSync(join(a, file), 'utf8'))
  for (const text of kept) expect(texts).toContain(text)
  await finish(b)
  const found = figures(a)
  expect(figures(b)).toEqual(found)
  expect(Object.keys(found).sort()).toEqual(['dense 2176', 'dense 544', 'memory'])

  const recall = (shape: string) => found[shape]!.recall.at(-1)!
  expect(recall('memory')).toBeGreaterThan(0.98)
  expect(recall('memory')).toBeGreaterThan(recall('dense 544'))
  const page = readFileSync(join(b, 'report', 'index.md'), 'utf8')
  expect(page).toMatch(/^# Reproduction\n\n> \*\*Of `--size sample` alone\*\*/)
  expect(page).toContain(`${(100 * recall('memory')).toFixed(2)} %`)
  for (const name of ['cities-epochs.svg', 'cities-seconds.svg']) {
    const svg = readFileSync(join(b, 'report', name), 'utf8')
    expect(svg).toMatch(/^<svg xmlns[\s\S]*Memory\+[\s\S]*<\/svg>\n$/)
    expect(svg).not.toContain('NaN')
  }
})

test('the facts are those that the report names', () => {
  const count = (name: 'cities' | 'nouns') => {
    const { names, answers } = namedFacts(name, Number.POSITIVE_INFINITY)
    return [names.length, new Set(names).size, new Set(answers).size]
  }
  expect(count('cities')).toEqual([119_077, 119_077, 242])
  expect(count('nouns')).toEqual([45_715, 45_715, 500])
  const [few, more] = [factSet('nouns', 50), factSet('nouns', 90)]
  expect(few.rows).toEqual(more.rows.subarray(0, few.rows.length))
})

test('systems have equal multiply-adds, MoE and PEER as many parameters as Memory+', () => {
  const wanted = 139_264
  for (const { label, shape } of [...systems, ...slotSystems]) {
    const factor = Number(/x(\d)/.exec(label)?.[1] ?? 1)
    const share = multiplyAdds(shape) / (factor * wanted)
    expect(share, label).toBeGreaterThan(0.985)
    expect(share, label).toBeLessThan(1.005)
  }
})

describe('what the report says', () => {
  const measured = (label: string, recall: number, spread = 0): Measured => ({
    ...systems.find((s) => s.label === label)!,
    rates: { lr: 1, tableLr: 1 },
    runs: [recall - spread / 2, recall + spread / 2].map((r) => ({
      points: [{ epoch: 1, seconds: 1, recall: r }],
      parameters: 1,
    })),
  })
  const said = (list: Measured[], slots: Measured[] = []) =>
    claims({ set: factSet('cities', 10), systems: list, slots, ablations: [] }).split('\n')

  test('what did not reproduce stands there', () => {
    const lines = said([
      measured('dense x4', 0.9),
      measured('PEER', 0.83),
      measured('Memory+', 0.8),
    ])
    expect(lines).toHaveLength(2)
    for (const line of lines) expect(line).toContain('**not so here**')
    expect(said([measured('dense x4', 0.7), measured('Memory+', 0.8)])[0]).toContain('**so it is')
    expect(said([measured('MoE', 0.83, 0.1), measured('Memory+', 0.8)])[0]).toContain('**so it is')
    const rising = [0.5, 0.6, 0.55].map((r) => measured('Memory+', r))
    expect(said([measured('Memory+', 0.8)], rising)[0]).toContain('**not so here**')
  })

  test('a run is made once', async () => {
    const folder = temporaryFolder()
    const runs = new Runs(folder)
    let made = 0
    const make = async () => ++made
    expect([await runs.once({ a: 1 }, make), await runs.once({ a: 1 }, make)]).toEqual([1, 1])
    expect(await new Runs(folder).once({ a: 1 }, make)).toBe(1)
    expect(await runs.once({ a: 2 }, make)).toBe(2)
    expect(new Runs(folder).find({ a: 3 })).toBeUndefined()
  })
})

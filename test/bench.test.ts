// The benchmark in its tiny shapes: every case runs and is checked, results and chart are written,
// wrong results and bad flags are refused.

import { spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll, describe, expect, test } from 'vitest'
import type { Backend } from '../bench/backends/backend.js'
import { Ours } from '../bench/backends/ours.js'
import { Plain } from '../bench/backends/plain.js'
import { loadCeilings } from '../bench/ceilings.js'
import { drawRows, makeTable } from '../bench/data.js'
import { bagCases } from '../bench/groups/bag.js'
import type { Environment } from '../bench/groups/case.js'
import { lookupCases } from '../bench/groups/lookup.js'
import {
  efforts,
  expectNear,
  type Result,
  race,
  ratioOf,
  timingOf,
  WrongResult,
} from '../bench/harness.js'
import { parse, UsageError } from '../bench/options.js'
import { encodeModel } from '../bench/peers/onnx.js'
import { leftOut, merge, type Results } from '../bench/results.js'
import { tiny } from '../bench/shapes.js'
import { openDevice } from '../lib/index.js'

const root = fileURLToPath(new URL('..', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'memory-layers-bench-'))
afterAll(() => rmSync(folder, { recursive: true, force: true }))

const json = join(folder, 'results.json')
const bench = (...args: string[]) =>
  spawnSync(
    process.execPath,
    ['--import', 'tsx', 'bench/main.ts', '--tiny', '--json', json, ...args],
    { cwd: root, encoding: 'utf8' },
  )

test('a run keeps the cases and the versions of contenders that it did not measure, and drops those of another machine', () => {
  const machine = { processor: 'one' } as Results['machine']
  const measured = (name: string) => ({ name, timings: [], commit: 'c', date: 'd', command: name })
  const old: Results = {
    machine,
    contenders: { plain: '1', PyTorch: '1', tfjs: leftOut },
    cases: { a: measured('a'), b: measured('b') },
  }
  const fresh: Results = {
    machine,
    contenders: { plain: leftOut, PyTorch: '2', tfjs: leftOut },
    cases: { b: measured('new') },
  }
  const merged = merge(old, fresh)
  expect(merged.contenders).toEqual({ plain: '1', PyTorch: '2', tfjs: leftOut })
  expect(merged.cases).toEqual({ a: old.cases['a'], b: fresh.cases['b'] })
  expect(merge({ ...old, machine: { ...machine, processor: 'other' } }, fresh)).toEqual(fresh)
})

describe('npm run bench, tiny shapes', () => {
  const without = ['onnxruntime', 'tfjs', 'pytorch'].flatMap((name) => ['--without', name])

  test('runs and checks every case, keeps the results, draws the chart', () => {
    const listed = bench('--list').stdout.trim().split('\n')
    const run = bench(...without)
    expect(run.stderr).toBe('')
    expect(run.status).toBe(0)
    const results = JSON.parse(readFileSync(json, 'utf8')) as Results
    expect(Object.keys(results.cases).sort()).toEqual([...listed].sort())
    for (const [name, result] of Object.entries(results.cases)) {
      expect(result.timings.length, name).toBeGreaterThan(0)
      for (const t of result.timings) expect(t.seconds, `${name}, ${t.name}`).toBeGreaterThan(0)
      if (!name.startsWith('layer/')) expect(result.timings.map((t) => t.name)).toContain('ceiling')
    }
    expect(results.contenders['onnxruntime-node']).toBe('left out with --without')
    expect(run.stdout).toContain('Targets')
  })

  test('a second run replaces what it measured and keeps the rest', () => {
    const before = JSON.parse(readFileSync(json, 'utf8')) as Results
    expect(bench(...without, '--only', '^gemm').status).toBe(0)
    const after = JSON.parse(readFileSync(json, 'utf8')) as Results
    expect(Object.keys(after.cases).sort()).toEqual(Object.keys(before.cases).sort())
    const gemm = Object.keys(after.cases).find((name) => name.startsWith('gemm'))!
    expect(after.cases[gemm]!.command).toContain('--only ^gemm')
  })

  test('a bad flag is one clear sentence', () => {
    const run = bench('--onyl', 'x')
    expect(run.status).toBe(2)
    expect(run.stderr.trim().split('\n')).toHaveLength(1)
    expect(run.stderr).toContain('--onyl')
  })
})

test.each([
  [['--threads', 'two'], '--threads is "two"'],
  [['--threads', '0'], '--threads is "0"'],
  [['--seconds=-1'], '--seconds is "-1"'],
  [['--only', '('], '--only is "("'],
  [['--without', 'numpy'], '--without is "numpy"'],
  [['more'], 'more'],
])('%s is refused', (args, message) => {
  expect(() => parse(args)).toThrow(UsageError)
  expect(() => parse(args)).toThrow(message)
})

// Every float of the memory is 1, and a list this short is one piece of work: the sum of the bits
// counts what was read.
test.each([
  [0, 0, 1],
  [3, 0, 1],
  [3, 1, 2],
  [500, 200, 2],
] as const)(
  'the gather ceiling reads every byte, prefetched %i and %i rows ahead, into cache %i',
  (ahead, again, cache) => {
    const ceilings = loadCeilings()
    const memory = ceilings.allocate(40 * 128)
    const scales = openDevice('cpu').tensor(new Float32Array(40).fill(1))
    const rows = ceilings.rowList(Int32Array.of(0, 39, 7, 7, 20), 40)
    const sumOfOnes = (count: number) => Math.imul(count, 0x3f800000) >>> 0
    const handle = scales.handle('test', 'scales')
    expect(ceilings.gather(memory, undefined, rows, 128, ahead, again, cache, 1)).toBe(
      sumOfOnes(5 * 32),
    )
    expect(ceilings.gather(memory, handle, rows, 128, ahead, again, cache, 1)).toBe(
      sumOfOnes(5 * 33),
    )
    const more = ceilings.rowList(Int32Array.of(0), 41)
    expect(() => ceilings.gather(memory, undefined, more, 128, ahead, again, cache, 1)).toThrow(
      RangeError,
    )
    expect(() => ceilings.gather(handle, undefined, rows, 128, ahead, again, cache, 1)).toThrow(
      RangeError,
    )
    expect(() =>
      ceilings.gather(ceilings.allocate(41 * 128), handle, more, 128, ahead, again, cache, 1),
    ).toThrow(RangeError)
  },
)

test.each([1, 2] as const)(
  'the update ceiling writes the listed rows of every part and their numbers, prefetched into cache %i',
  (cache) => {
    const ceilings = loadCeilings()
    const [slots, rowBytes, parts] = [40, 128, 3]
    const apart = slots * rowBytes + 64
    const lines = 246 // three parts and, behind them, a number for each row
    const memory = ceilings.allocate(lines * 64)
    const rows = ceilings.rowList(Int32Array.of(0, 39, 7), slots)
    const all = ceilings.rowList(
      Int32Array.from({ length: lines }, (_, i) => i),
      lines,
    )
    const twos = () => {
      const bits = ceilings.gather(memory, undefined, all, 64, 0, 0, 1, 1)
      return ((bits - Math.imul(lines * 16, 0x3f800000)) >>> 0) / (0x40000000 - 0x3f800000)
    }
    expect(twos()).toBe(0)
    ceilings.update(memory, rows, rowBytes, parts, apart, false, 1, cache, 1)
    expect(twos()).toBe(3 * parts * (rowBytes / 4))
    const fresh = ceilings.allocate(lines * 64)
    expect(() =>
      ceilings.update(fresh, rows, rowBytes, parts, apart - 128, false, 1, cache, 1),
    ).toThrow(RangeError)
    expect(() =>
      ceilings.update(fresh, rows, rowBytes, parts + 1, apart, false, 1, cache, 1),
    ).toThrow(RangeError)
    ceilings.update(
      memory,
      ceilings.rowList(Int32Array.of(1), slots),
      rowBytes,
      parts,
      apart,
      true,
      1,
      cache,
      1,
    )
    expect(twos()).toBe(4 * parts * (rowBytes / 4) + 1)
  },
)

describe('a wrong result fails the benchmark', () => {
  const ours = new Ours(1)
  const environment = (backends: readonly Backend[]): Environment => ({
    effort: efforts.tiny,
    backends,
    helpers: [],
    ours: [ours],
    table: (slots, dim, dtype) => makeTable(slots, dim, dtype, (x) => new Uint16Array(x.length)),
  })
  // A contender whose first output is off by a little.
  const spoiled = (
    method: 'bag' | 'bagWeights' | 'update' | 'lookup',
    key: string,
    by: number,
  ): Backend => {
    const plain = new Plain()
    return {
      name: 'spoiled',
      threads: 1,
      async [method](problem: never) {
        const contender = (await plain[method](problem))!
        return {
          ...contender,
          result: async () => {
            const result: Result = await contender.result()
            const values = Array.from(result[key]!)
            values[0] = values[0]! + by
            return { ...result, [key]: values }
          },
        }
      },
    }
  }
  const cases = [...bagCases(tiny), ...lookupCases(tiny)]
  const named = (start: string) => cases.find((c) => c.name.startsWith(start))!

  test.each([
    ['bag/', 'bag', 'y', 0.1],
    ['dweights/', 'bagWeights', 'dWeights', 0.1],
    ['update/sgd', 'update', 'rows', 0.01],
    ['update/rowwiseAdagrad', 'update', 'rows', 0.01],
    ['lookup/', 'lookup', 'weights', 0.01],
    ['lookup/', 'lookup', 'indices', 1],
  ] as const)('%s %s', async (start, method, key, by) => {
    await expect(named(start).run(environment([spoiled(method, key, by)]))).rejects.toThrow(
      /^spoiled/,
    )
    await expect(named(start).run(environment([spoiled(method, key, 0)]))).resolves.toMatchObject({
      name: named(start).name,
    })
  })

  test('not a number, and a missing output', () => {
    expect(() => expectNear('y', [Number.NaN], [1], 1)).toThrow(WrongResult)
    expect(() => expectNear('y', undefined, [1], 1)).toThrow(WrongResult)
    expect(() => expectNear('y', [1, 2], [1], 1)).toThrow(WrongResult)
  })
})

describe('contenders of a race are compared round by round', () => {
  const timing = (rounds: (number | null)[]) => timingOf('x', 1, rounds)

  test('a machine that slows down does not move the ratio', () => {
    const mood = [1, 1, 1, 3, 3, 3, 3]
    const b = timing(mood)
    const a = timing(mood.map((m, i) => (i % 2 ? null : 2 * m)))
    expect(a.seconds / b.seconds).not.toBeCloseTo(2)
    expect(ratioOf(a, b)).toBe(2)
  })

  test('medians are compared where they met too seldom', () => {
    expect(ratioOf(timing([4, null, null, 6]), timing([null, 2, 2, 2]))).toBe(2.5)
    expect(ratioOf(timingOf('a', 1, [6]), timingOf('b', 1, [2]))).toBe(3)
  })

  test('each round holds what ran in it', async () => {
    const contender = (milliseconds: number) => ({
      run: () => undefined,
      time: async (sets: readonly number[]) => (sets.length * milliseconds) / 1e3,
      result: () => ({}),
    })
    const entrants = [1, 100].map((ms) => ({ name: `${ms}`, threads: 1, contender: contender(ms) }))
    const { timings } = await race(entrants, 2, { budget: 0.4, fewest: 3, most: 12, rep: 0 })
    expect(timings[0]!.reps).toBeGreaterThan(timings[1]!.reps)
    for (const t of timings) expect(t.rounds!.filter((s) => s !== null)).toHaveLength(t.reps)
    expect(timings[0]!.rounds).toHaveLength(timings[1]!.rounds!.length)
    expect(ratioOf(timings[1]!, timings[0]!)).toBeCloseTo(100)
  })
})

test('Zipf draws follow 1 / rank', () => {
  const slots = 1000
  const count = new Map<number, number>()
  const draws = 200_000
  for (const row of drawRows('zipf', draws, slots, 1)) count.set(row, (count.get(row) ?? 0) + 1)
  const frequent = [...count.values()].sort((a, b) => b - a)
  const harmonic = Array.from({ length: slots }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b, 0)
  for (const rank of [1, 2, 5, 10]) {
    const wanted = draws / rank / harmonic
    expect(Math.abs(frequent[rank - 1]! - wanted)).toBeLessThan(5 * Math.sqrt(wanted))
  }
})

test('an ONNX model is the bytes of the format', () => {
  const bytes = encodeModel({
    inputs: [{ name: 'x', type: 'float32', shape: [2, 300] }],
    outputs: [{ name: 'y', type: 'float32', shape: [2, 300] }],
    constants: [{ name: 'c', type: 'float32', shape: [1], data: new Float32Array([1]) }],
    nodes: [{ op: 'Softmax', inputs: ['x'], outputs: ['y'], attributes: { axis: -1 } }],
  })
  // Version 8 first; a node with its names, then an attribute of -1 as ten bytes and its kind; a
  // constant of one float; operator set 17 last.
  const hex = Buffer.from(bytes).toString('hex')
  expect(hex.startsWith('08083a')).toBe(true)
  expect(hex).toContain(`0a01781201792207${Buffer.from('Softmax').toString('hex')}`)
  expect(hex).toContain('0a046178697318ffffffffffffffffff01a00102')
  expect(hex).toContain('080110014201634a040000803f')
  expect(hex.endsWith('42040a001011')).toBe(true)
})

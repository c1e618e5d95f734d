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
import { loadCeilings } from '../bench/ceilings.js'
import { expectNear, WrongResult } from '../bench/check.js'
import { makeTable, sampleIndices } from '../bench/data.js'
import { bagCases } from '../bench/groups/bag.js'
import type { Environment } from '../bench/groups/case.js'
import { lookupCases } from '../bench/groups/lookup.js'
import { updateCases } from '../bench/groups/update.js'
import { efforts, type Result, ratioOf, timeRounds, timingOf } from '../bench/harness.js'
import { parse, UsageError } from '../bench/options.js'
import { encodeModel } from '../bench/peers/onnx.js'
import { casesTable, caseText } from '../bench/report.js'
import { leftOut, merge, type Results } from '../bench/results.js'
import { tiny } from '../bench/shapes.js'
import { targets } from '../bench/targets.js'
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

const machine = { processor: 'one' } as Results['machine']

test('a run keeps what it did not measure, and drops what another machine measured', () => {
  const measured = (name: string) => ({ name, timings: [], commit: 'c', date: 'd', command: name })
  const old: Results = {
    machine,
    contenders: { ort: '1', PyTorch: '1', other: leftOut },
    cases: { a: measured('a'), b: measured('b') },
  }
  const fresh: Results = {
    machine,
    contenders: { ort: leftOut, PyTorch: '2', other: leftOut },
    cases: { b: measured('new') },
  }
  const merged = merge(old, fresh)
  expect(merged.contenders).toEqual({ ort: '1', PyTorch: '2', other: leftOut })
  expect(merged.cases).toEqual({ a: old.cases['a'], b: fresh.cases['b'] })
  expect(merge({ ...old, machine: { ...machine, processor: 'other' } }, fresh)).toEqual(fresh)
})

test('results as text, as a table, and against the targets', () => {
  const times = { 'memory-layers': [2, 1], ceiling: [1, 0.5], PyTorch: [30, 4] }
  const name = 'update/adamw/1048576x256/float32/256x128/uniform'
  const timings = Object.entries(times).flatMap(([contender, seconds]) =>
    seconds.map((s, i) => timingOf(contender, i + 1, [s * 1e-3])),
  )
  const result = { name, unit: 'GB/s' as const, work: 4e6, timings, notes: { touchedRows: 30.5 } }
  expect(caseText(result)).toBe(`${name}
  memory-layers  2000 µs / 1000 µs
  rate           2.0 / 4.0 GB/s
  of ceiling     0.50 / 0.50
  spread         ±0 % / ±0 %
  ceiling        1000 µs / 500 µs
  PyTorch        30.0 ms / 4000 µs (15x / 4.0x)
  touchedRows    30.50
`)
  const other = { name: 'update/other', timings: timings.slice(0, 1) }
  expect(casesTable([other, result])).toEqual([
    '|  | memory-layers | rate | of ceiling | spread | ceiling | PyTorch |',
    '| --- | --- | --- | --- | --- | --- | --- |',
    '| other | 2000 µs |  |  | ±0 % |  |  |',
    '| adamw/1048576x256/float32/256x128/uniform | 2000 µs / 1000 µs | 2.0 / 4.0 GB/s |' +
      ' 0.50 / 0.50 | ±0 % / ±0 % | 1000 µs / 500 µs | 30.0 ms / 4000 µs (15x / 4.0x) |',
  ])
  const cases = { [name]: { ...result, commit: 'c', date: 'd', command: 'x' } }
  const known = targets({ machine, contenders: {}, cases }).filter(({ figures }) => figures)
  expect(known.map(({ quantity, bound, reached }) => [quantity, bound, reached])).toEqual([
    ['ceiling / ours', '>= 0.75x', false],
    ['PyTorch / ours', '>= 6x', true],
    ['speedup of ours where bandwidth allows', '>= 1.7x', true],
    ['speedup of ours', '', undefined],
    ['speedup of ceiling', '', undefined],
  ])
})

describe('npm run bench, tiny shapes', () => {
  const without = ['onnxruntime', 'pytorch'].flatMap((name) => ['--without', name])

  test('runs and checks every case, stores the results, draws the chart', () => {
    const listed = bench('--list').stdout.trim().split('\n')
    const run = bench(...without)
    expect(run.stderr).toBe('')
    expect(run.status).toBe(0)
    const results = JSON.parse(readFileSync(json, 'utf8')) as Results
    expect(Object.keys(results.cases).sort()).toEqual([...listed].sort())
    for (const [name, result] of Object.entries(results.cases)) {
      expect(result.timings.length, name).toBeGreaterThan(0)
      for (const t of result.timings) expect(t.seconds, `${name}, ${t.name}`).toBeGreaterThan(0)
      if (!/^(layer|model)\//.test(name))
        expect(result.timings.map((t) => t.name)).toContain('ceiling')
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

// Every float of the memory is 1, and a list this short is one chunk: the sum of the bits counts
// what was read.
test.each([
  [0, 0, 1, false],
  [3, 0, 1, false],
  [3, 1, 2, false],
  [500, 200, 2, false],
  [0, 0, 2, true],
  [3, 0, 1, true],
  [500, 0, 2, true],
] as const)(
  'the gather ceiling reads every byte: distances %i and %i, level %i, unrolled %s',
  (distance, l1Distance, level, unrolled) => {
    const ceilings = loadCeilings()
    const memory = ceilings.allocate(40 * 128)
    const scales = openDevice('cpu').tensor(new Float32Array(40).fill(1)).handle('test', 'scales')
    const rows = ceilings.rowList(Int32Array.of(0, 39, 7, 7, 20), 40)
    const more = ceilings.rowList(Int32Array.of(0), 41)
    type Arguments = Parameters<typeof ceilings.gather>
    const gather = (from: Arguments[0], factors: Arguments[1], list = rows) =>
      ceilings.gather(from, factors, list, 128, distance, l1Distance, level, unrolled, 1)
    const sumOfOnes = (count: number) => Math.imul(count, 0x3f800000) >>> 0
    expect(gather(memory, undefined)).toBe(sumOfOnes(5 * 32))
    expect(gather(memory, scales)).toBe(sumOfOnes(5 * 33))
    expect(() => gather(memory, undefined, more)).toThrow(RangeError)
    expect(() => gather(scales, undefined)).toThrow(RangeError)
    expect(() => gather(ceilings.allocate(41 * 128), scales, more)).toThrow(RangeError)
  },
)

test.each([1, 2] as const)(
  'the update ceiling writes the listed rows of every table and their states, level %i',
  (level) => {
    const ceilings = loadCeilings()
    const [slots, rowBytes, tables] = [40, 128, 3]
    const stride = slots * rowBytes + 64
    const lines = 246 // three tables and, behind them, a number for each row
    const memory = ceilings.allocate(lines * 64)
    const rows = ceilings.rowList(Int32Array.of(0, 39, 7), slots)
    const all = ceilings.rowList(
      Int32Array.from({ length: lines }, (_, i) => i),
      lines,
    )
    const update = (list: typeof rows, count: number, step: number, states: boolean) =>
      ceilings.update(memory, list, rowBytes, count, step, states, 1, level, 1)
    const twos = () => {
      const bits = ceilings.gather(memory, undefined, all, 64, 0, 0, 1, false, 1)
      return ((bits - Math.imul(lines * 16, 0x3f800000)) >>> 0) / (0x40000000 - 0x3f800000)
    }
    expect(twos()).toBe(0)
    update(rows, tables, stride, false)
    expect(twos()).toBe(3 * tables * (rowBytes / 4))
    expect(() => update(rows, tables, stride - 128, false)).toThrow(RangeError)
    expect(() => update(rows, tables + 1, stride, false)).toThrow(RangeError)
    update(ceilings.rowList(Int32Array.of(1), slots), tables, stride, true)
    expect(twos()).toBe(4 * tables * (rowBytes / 4) + 1)
  },
)

describe('a wrong result fails the benchmark', () => {
  const ours = new Ours(1)
  const environment = (backends: readonly Backend[]): Environment => ({
    effort: efforts.tiny,
    backends,
    pids: [],
    ours: [ours],
    table: (slots, dim, dtype) =>
      makeTable(slots, dim, dtype, async (x) => new Uint16Array(x.length)),
  })
  // A contender whose first output is off by a little.
  const spoiled = (
    method: 'bag' | 'bagWeights' | 'update' | 'lookup',
    key: string,
    by: number,
  ): Backend => ({
    name: 'spoiled',
    threads: 1,
    async [method](problem: never) {
      const contender = await ours[method](problem)
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
  })
  const cases = [...bagCases(tiny), ...updateCases(tiny), ...lookupCases(tiny)]
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

describe('contenders are compared round by round', () => {
  const timing = (rounds: (number | null)[]) => timingOf('x', 1, rounds)

  test('a machine that slows down does not move the ratio', () => {
    const slowdown = [1, 1, 1, 3, 3, 3, 3]
    const b = timing(slowdown)
    const a = timing(slowdown.map((m, i) => (i % 2 ? null : 2 * m)))
    expect(a.seconds / b.seconds).not.toBeCloseTo(2)
    expect(ratioOf(a, b)).toBe(2)
  })

  test('medians are compared where too few rounds are common', () => {
    expect(ratioOf(timing([4, null, null, 6]), timing([null, 2, 2, 2]))).toBe(2.5)
    expect(ratioOf(timingOf('a', 1, [6]), timingOf('b', 1, [2]))).toBe(3)
  })

  test('each round holds what ran in it', async () => {
    const contender = (milliseconds: number) => ({
      run: () => undefined,
      time: async (sets: readonly number[]) => (sets.length * milliseconds) / 1e3,
      result: () => ({}),
    })
    const pair = [1, 100].map((ms) => ({ name: `${ms}`, threads: 1, contender: contender(ms) }))
    const effort = { budget: 0.4, minReps: 3, maxReps: 12, rep: 0 }
    const { timings } = await timeRounds(pair, 2, effort)
    expect(timings[0]!.reps).toBeGreaterThan(timings[1]!.reps)
    for (const t of timings) expect(t.rounds!.filter((s) => s !== null)).toHaveLength(t.reps)
    expect(timings[0]!.rounds).toHaveLength(timings[1]!.rounds!.length)
    expect(ratioOf(timings[1]!, timings[0]!)).toBeCloseTo(100)
  })
})

test('Zipf samples follow 1 / rank', () => {
  const slots = 1000
  const count = new Map<number, number>()
  const samples = 200_000
  for (const row of sampleIndices('zipf', samples, slots, 1))
    count.set(row, (count.get(row) ?? 0) + 1)
  const frequent = [...count.values()].sort((a, b) => b - a)
  const harmonic = Array.from({ length: slots }, (_, i) => 1 / (i + 1)).reduce((a, b) => a + b, 0)
  for (const rank of [1, 2, 5, 10]) {
    const expected = samples / rank / harmonic
    expect(Math.abs(frequent[rank - 1]! - expected)).toBeLessThan(5 * Math.sqrt(expected))
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

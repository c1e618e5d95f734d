import { describe, expect, it } from 'vitest'
import { devices } from '../../lib/index.js'
import { launch, type Mpi, mpis } from './launch.js'

const emulated = devices().some(({ kind }) => kind === 'simt')

interface Report {
  rank: number
  size: number
  description: string
  traffic: { calls: number; sent: number; received: number }
  all: Record<string, { calls: number; sent: number; received: number }>
  // biome-ignore lint/suspicious/noExplicitAny: one field for each collective
  results: Record<string, any>
}

const numbers = (rank: number, count: number) =>
  Array.from({ length: count }, (_, i) =>
    Math.fround(Math.sin((rank + 1) * 12.9898 + i * 78.233) * 10 ** ((i + rank) % 5)),
  )
const ranksOf = (size: number) => Array.from({ length: size }, (_, r) => r)
const rowsOf = (r: number) => (r * 5 + 2) % 4

/** The sum of lists in float32, in their order. */
function sumInOrder(lists: number[][]): number[] {
  return (lists[0] as number[]).map((first, i) =>
    lists.slice(1).reduce((sum, list) => Math.fround(sum + (list[i] as number)), first),
  )
}

function sums(size: number, count: number): number[] {
  return sumInOrder(ranksOf(size).map((r) => numbers(r, count)))
}

function part(n: number, r: number, ranks: number): number {
  const begin = (r: number) => Math.floor(n / ranks) * r + Math.floor(((n % ranks) * r) / ranks)
  return begin(r + 1) - begin(r)
}

function checkReduces({ size, rank, results, traffic }: Report): void {
  for (const count of [0, 1, 7, 1000]) {
    const wanted = sums(size, count)
    expect(results[`allReduce sum ${count}`]).toEqual(wanted)
    expect(results[`allReduce mean ${count}`]).toEqual(wanted.map((s) => Math.fround(s / size)))
  }
  const sent = [1, 7, 1000].map((n) => {
    const own = part(n, rank, size)
    return n - own + (size - 1) * own
  })
  const bytes = 2 * 4 * sent.reduce((a, b) => a + b)
  if (size > 1) expect(traffic.sent).toBe(bytes)
  expect(results['buckets']).toEqual([sums(size, 33), sums(size, 64)])
  expect(results['beside']).toEqual(numbers(rank, 4))
  expect(results['afterSplit']).toEqual(sums(size, 5))
  const summed = ranksOf(size).reduce((n, r) => n + rowsOf(r), 0)
  const begin = ranksOf(rank).reduce((n, r) => n + rowsOf(r), 0)
  const scattered = sums(size, summed * 2).slice(begin * 2, (begin + rowsOf(rank)) * 2)
  expect(results['reduceScatter']).toEqual(scattered)
}

function checkMoves({ size, rank, results }: Report): void {
  const all = ranksOf(size)
  expect(results['allGather']).toEqual(all.flatMap((r) => numbers(r, rowsOf(r) * 3)))
  expect(results['allGatherBytes']).toEqual(
    all.flatMap((r) => [0, 1, 2, 3, 4].map((i) => r * 5 + i)),
  )
  expect(results['allGatherHalf']).toHaveLength(size * 6)
  expect(results['allGatherHalf'].slice(rank * 6, rank * 6 + 6)).toEqual(
    numbers(rank, 6).map(bfloat16),
  )
  const sentBy = (from: number) => all.map((r) => (from + 2 * r) % 3)
  const toHere = all.flatMap((from) => {
    const send = sentBy(from)
    const total = send.reduce((a, b) => a + b, 0)
    const begin = send.slice(0, rank).reduce((a, b) => a + b, 0)
    return numbers(from, total * 2).slice(begin * 2, (begin + (send[rank] as number)) * 2)
  })
  expect(results['allToAll']).toEqual(toHere)
  expect(results['transpose']).toEqual(all.map((r) => r * 100 + rank))
  expect(results['broadcast']).toEqual(numbers(size - 1, 9))
  expect(results['arriving']).toEqual(all.flatMap((r) => numbers(r, 3)))
}

/** Ranks that wait for each other can't be captured; alone there is nothing to wait for. */
function checkCaptured({ size, rank, results }: Report): void {
  const { refused, left } = results['captured']
  expect(left).toEqual(numbers(rank, 4))
  const message = /^allReduce: can't be captured, as it exchanges messages /
  const wanted = { code: 'ERR_UNSUPPORTED', rank: null, message: expect.stringMatching(message) }
  expect(refused).toEqual(size === 1 ? null : wanted)
}

function bfloat16(x: number): number {
  const bits = new Uint32Array(new Float32Array([x]).buffer)[0] as number
  return (bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16
}

function checkGroups({ size, rank, results }: Report): void {
  const members = ranksOf(size)
    .filter((r) => r % 2 === rank % 2)
    .reverse()
  expect(results['split']).toEqual({
    rank: members.indexOf(rank),
    size: members.length,
    sum: sumInOrder(members.map((r) => numbers(r, 5))),
    inner: members.map((r) => [r]),
  })
  expect(results['exchange']).toEqual(ranksOf(size).map((r) => [r, 2 ** 53 - r]))
  expect(results['exchangeSync']).toEqual(ranksOf(size).map((r) => [r * 0.5]))
}

async function check(mpi: Mpi, size: number, device: string): Promise<void> {
  const { results, output, status } = await launch<Report>(mpi, size, 'collectives.mjs', {
    env: { TEST_DEVICE: device },
    limit: 80,
  })
  expect(results.filter(Boolean), output).toHaveLength(size)
  for (const report of results as Report[]) {
    expect(report.description).toMatch(mpi === 'openmpi' ? /^Open MPI \d/ : /^MPICH \d/)
    checkReduces(report)
    checkMoves(report)
    checkGroups(report)
    checkCaptured(report)
  }
  // What one sends another receives.
  const total = (key: 'sent' | 'received') =>
    (results as Report[]).reduce(
      (n, { all }) => n + Object.values(all).reduce((m, t) => m + t[key], 0),
      0,
    )
  expect(total('sent')).toBe(total('received'))
  expect(status, output).toBe(0)
}

describe.each(mpis)('%s', (mpi) => {
  it.each([1, 2, 3, 4, 8])('collectives of %i ranks on the CPU', (size) => check(mpi, size, 'cpu'))
  it.runIf(emulated).each([2, 3])('collectives of %i ranks on simt, through the host', (size) =>
    check(mpi, size, 'simt'),
  )
})

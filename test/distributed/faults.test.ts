import { spawnSync } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { describe, expect, it } from 'vitest'
import { addonOf, launch, type Mpi, mpis, survivors } from './launch.js'

interface Refusal {
  code: string
  rank: number | null
  message: string
}

interface Lost {
  rank: number
  error: Refusal
  seconds: number
  after: Refusal
  exchange: Refusal
  close: Refusal
}

const root = fileURLToPath(new URL('../..', import.meta.url))

async function lose(
  mpi: Mpi,
  mode: string,
  { culprit = 1, ranks = 3, env = {}, limit = 50 } = {},
): Promise<Lost[]> {
  const { results, output } = await launch<Lost>(mpi, ranks, 'faults.mjs', {
    ...survivors[mpi],
    args: [mode],
    env: { TEST_CULPRIT: String(culprit), ...env },
    until: ranks - 1,
    limit,
  })
  const others = results.filter((_, rank) => rank !== culprit) as Lost[]
  for (const other of others) expect(other?.error, output).toBeTruthy()
  return others
}

function expectLost(others: Lost[], culprit: number, seconds: number): void {
  for (const other of others) {
    expect(other.error.code).toBe('ERR_DISTRIBUTED')
    expect(other.error.rank).toBe(culprit)
    expect(other.seconds).toBeLessThan(seconds)
    for (const later of [other.after, other.exchange])
      expect(later).toMatchObject({ code: 'ERR_DISTRIBUTED', rank: culprit })
  }
}

describe.each(mpis)('%s', (mpi) => {
  it.each([1, 0])('the others learn that rank %i was killed in mid-step', async (culprit) => {
    expectLost(await lose(mpi, 'kill', { culprit }), culprit, 15)
  })

  it('the others learn that a rank has ended', async () => {
    expectLost(await lose(mpi, 'exit'), 1, 15)
  })

  it('a rank that takes no part ends the others after the timeout', async () => {
    const others = await lose(mpi, 'late', { env: { TEST_TIMEOUT: '4' } })
    expectLost(others, 1, 10)
    expect(others.some(({ error }) => /must take part within 4 s/.test(error.message))).toBe(true)
  })

  it('errors of one call name the rank, and the world goes on', async () => {
    const { results, output, status } = await launch<{
      rank: number
      results: Record<string, Refusal | null>
    }>(mpi, 3, 'faults.mjs', { args: ['recoverable'] })
    expect(status, output).toBe(0)
    for (const [rank, report] of results.entries()) {
      const own = rank === 1
      expect(report?.results['void']).toMatchObject(
        own ? { code: 'ERR_INDEX_RANGE' } : { code: 'ERR_DISTRIBUTED' },
      )
      if (!own) expect(report?.results['void']?.rank).toBe(1)
      expect(report?.results['afterVoid']).toEqual(new Array(9).fill(0))
      for (const name of ['fewer', 'more'])
        expect(report?.results[name]?.code, name).toBe('ERR_DISTRIBUTED')
      if (!own) expect(report?.results['fewer']?.rank).toBe(1)
      for (const name of ['text', 'textSync'])
        expect(report?.results[name]).toMatchObject({ code: 'ERR_DISTRIBUTED', rank: 1 })
      expect(report?.results['equal']).toBeNull()
      expect(report?.results['again']?.code).toBe('ERR_DISTRIBUTED')
      expect(report?.results['step']).toBeNull()
    }
  })

  it('close() waits for what was enqueued', async () => {
    const { results, output, status } = await launch<{ results: Record<string, unknown> }>(
      mpi,
      3,
      'faults.mjs',
      { args: ['closing'], limit: 40 },
    )
    expect(status, output).toBe(0)
    for (const report of results) {
      expect(report?.results['barrier']).toBeGreaterThan(900)
      expect(report?.results['sum']).toEqual([3, 6])
      expect(report?.results['after']).toMatchObject({
        code: 'ERR_DISPOSED',
        message: expect.stringContaining('the world was closed'),
      })
    }
  })

  it('close() ends when a rank is lost before its part', async () => {
    expectLost(await lose(mpi, 'lost-at-close'), 1, 20)
  })

  it('nothing hangs under the default flags when a rank is killed', async () => {
    const { seconds, status } = await launch(mpi, 3, 'faults.mjs', { args: ['kill'], limit: 45 })
    expect(seconds).toBeLessThan(30)
    expect(status).not.toBe(0)
  })
})

it.runIf(mpis.length === 2)('refuses the addon of another MPI than the launcher', async () => {
  const [a, b] = mpis as [Mpi, Mpi]
  for (const [launcher, addon] of [
    [a, b],
    [b, a],
  ] as const) {
    const { results } = await launch<{ refused: Refusal }>(launcher, 2, 'faults.mjs', {
      args: ['kill'],
      env: { MEMORY_LAYERS_MPI: addonOf(addon) },
    })
    for (const result of results)
      expect(result?.refused).toMatchObject({
        code: 'ERR_DISTRIBUTED',
        message: expect.stringContaining('build --mpi'),
      })
  }
})

it('says how to build the addon where it is missing, or is none', () => {
  const program = `
    const { initDistributed } = await import('./dist/distributed.js')
    try { await initDistributed() } catch (e) { console.log(e.code + ' ' + e.message) }`
  for (const file of ['/nowhere/memory_layers_mpi.node', `${root}/scripts/ci-packages.sh`]) {
    const { stdout } = spawnSync(process.execPath, ['--input-type=module', '-e', program], {
      cwd: root,
      encoding: 'utf8',
      env: { ...process.env, MEMORY_LAYERS_MPI: file },
    })
    expect(stdout).toMatch(/^ERR_UNSUPPORTED/)
    expect(stdout).toContain('npx memory-layers build --mpi')
    expect(stdout).toContain('libopenmpi-dev')
  }
})

it.each(mpis)('a rank that never arrives ends the others, under %s', async (mpi) => {
  const { results, output } = await launch<{ refused: Refusal; seconds: number }>(
    mpi,
    3,
    'faults.mjs',
    {
      args: ['absent'],
      env: { TEST_TIMEOUT: '5' },
      flags: survivors[mpi].flags,
      until: 2,
      limit: 40,
    },
  )
  for (const rank of [0, 2]) {
    expect(results[rank]?.refused, output).toMatchObject({ code: 'ERR_DISTRIBUTED', rank: 1 })
    expect(results[rank]?.seconds).toBeLessThan(20)
  }
})

it.runIf(mpis.includes('openmpi'))('a rank that is stopped is lost', async () => {
  expectLost(await lose('openmpi', 'stop', { limit: 40 }), 1, 30)
})

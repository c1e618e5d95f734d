import { readdirSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { system } from '../../lib/files/system.js'
import {
  loadSafetensors,
  MemoryLayersError,
  openDevice,
  saveSafetensors,
  ValueTable,
} from '../../lib/index.js'
import { systemError, temporaryFolder, withFailures } from '../support/files.js'

const device = openDevice('cpu')
const own = openDevice('cpu', { threads: 1 })
const folder = temporaryFolder()
const path = join(folder, 'x.safetensors')
const rows = device.tensor([1, 2, 3, 4], [2, 2])
const old = Buffer.from('what was there before')

beforeEach(() => {
  for (const name of readdirSync(folder)) rmSync(join(folder, name))
})

/** What f throws, which must be the package's own error. */
async function outcome(f: () => Promise<unknown>): Promise<MemoryLayersError | undefined> {
  try {
    await f()
    return undefined
  } catch (error) {
    expect(error).toBeInstanceOf(MemoryLayersError)
    expect((error as MemoryLayersError).code).toBe('ERR_FILE_FORMAT')
    expect((error as Error).message).toContain(path)
    expect((error as Error).cause).toMatchObject({ syscall: 'test' })
    return error as MemoryLayersError
  }
}

const save = () => saveSafetensors(path, { rows })

describe('a save in which a file call fails', () => {
  test.each([
    ['once', (n: number) => (call: number) => call === n && systemError()],
    ['and every one after it', (n: number) => (call: number) => call >= n && systemError()],
  ])('%s leaves the old file or the new one, and says which', async (_, failsAt) => {
    writeFileSync(path, '')
    await save()
    const whole = readFileSync(path)
    const outcomes: boolean[] = []
    for (let n = 1; ; n++) {
      writeFileSync(path, old)
      let error: MemoryLayersError | undefined
      const calls = await withFailures(failsAt(n), async () => {
        error = await outcome(save)
      })
      expect(readFileSync(path).equals(error ? old : whole), `call ${n}`).toBe(true)
      // the call that removes the temporary file may fail as well
      if (failsAt(n)(n + 1) === false) expect(readdirSync(folder)).toEqual(['x.safetensors'])
      outcomes.push(error === undefined)
      if (calls < n) break
      for (const name of readdirSync(folder)) rmSync(join(folder, name))
    }
    expect(outcomes.filter((saved) => !saved).length).toBeGreaterThan(10)
    // the last call, closing, may fail; and with none failing it is saved
    expect(outcomes.slice(-2)).toEqual([true, true])
  })

  test('without a file before it leaves none', async () => {
    for (let n = 1; ; n++) {
      let error: MemoryLayersError | undefined
      const calls = await withFailures(
        (call) => call === n && systemError('ENOSPC', -28),
        async () => {
          error = await outcome(save)
        },
      )
      expect(readdirSync(folder)).toEqual(error ? [] : ['x.safetensors'])
      if (calls < n) break
      rmSync(path, { force: true })
    }
  })

  test('a folder that can not be read or flushed is no error', async () => {
    for (const [refused, time] of [
      ['open', 1],
      ['sync', 2],
    ] as const) {
      let calls = 0
      await withFailures(
        (_, name) => name === refused && ++calls === time && systemError('EACCES', -13),
        save,
      )
      expect(calls).toBeGreaterThanOrEqual(time)
      expect(readdirSync(folder)).toEqual(['x.safetensors'])
    }
  })

  test('a file system without locks is no error; nothing is removed there', async () => {
    const left = '.memory-layers-00000000-0123456789abcdef.tmp'
    writeFileSync(join(folder, left), '')
    utimesSync(join(folder, left), 1, 1)
    const { lock } = system
    system.lock = () => undefined
    await save()
    system.lock = lock
    expect(readdirSync(folder).sort()).toEqual([left, 'x.safetensors'])
    await save()
    expect(readdirSync(folder)).toEqual(['x.safetensors'])
  })

  test('a temporary file that another save takes for one that was left is made anew', async () => {
    const { lock } = system
    const answers = [false, true]
    system.lock = (handle) => answers.shift() ?? lock(handle)
    await save()
    system.lock = lock
    expect(answers).toEqual([])
    expect(readdirSync(folder)).toEqual(['x.safetensors'])
  })
})

test.each([
  ['load', async () => void (await loadSafetensors(path, { device: own }))['rows']!.dispose()],
  ['map', async () => ValueTable.map(path, 'rows', { device: own }).dispose()],
])('a %s in which a file call fails is refused and leaves nothing', async (_, read) => {
  await save()
  const before = own.memory().allocated
  let refused = 0
  for (let n = 1; ; n++) {
    const calls = await withFailures(
      (call) => call === n && systemError('EMFILE', -24),
      async () => {
        if (await outcome(read)) refused++
      },
    )
    expect(own.memory().allocated).toBe(before)
    if (calls < n) break
  }
  expect(refused).toBeGreaterThan(4)
})

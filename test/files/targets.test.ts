import { execFileSync, spawn } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { join, relative } from 'node:path'
import { beforeEach, describe, expect, test } from 'vitest'
import { loadSafetensors, openDevice, saveSafetensors, ValueTable } from '../../lib/index.js'
import { errorOf } from '../support/errors.js'
import { temporaryFolder } from '../support/files.js'

const device = openDevice('cpu')
const root = temporaryFolder()
let folder = root
beforeEach(() => {
  folder = mkdtempSync(join(root, 'case-'))
})

const at = (name: string) => join(folder, name)
const save = (name: string, value = 1) => saveSafetensors(at(name), { x: device.tensor([value]) })
async function valueAt(name: string): Promise<number | undefined> {
  const { x } = await loadSafetensors(at(name), { device })
  return (await x!.data())[0]
}
const isRoot = process.getuid?.() === 0

describe('the file of a save', () => {
  test('keeps mode and owner of the one before', async () => {
    for (const mode of [0o600, 0o640, 0o444, 0o666]) {
      writeFileSync(at('private'), 'old')
      chmodSync(at('private'), mode)
      if (isRoot) chownSync(at('private'), 1234, 5678)
      await save('private')
      const { mode: now, uid, gid } = statSync(at('private'))
      expect((now & 0o777).toString(8)).toBe(mode.toString(8))
      if (isRoot) expect([uid, gid]).toEqual([1234, 5678])
    }
    writeFileSync(at('plain'), '')
    await save('new')
    expect(statSync(at('new')).mode).toBe(statSync(at('plain')).mode)
  })

  test('is what a link leads to, and the link stays', async () => {
    mkdirSync(at('inner'))
    mkdirSync(at('elsewhere'))
    symlinkSync(at('inner'), at('way'))
    symlinkSync('../elsewhere/file', at('inner/one')) // of the folder it is in
    symlinkSync('way/../inner/one', at('two'))
    symlinkSync(at('two'), at('three'))
    // dangling at first
    for (const value of [1, 2]) {
      await save('three', value)
      expect(await valueAt('elsewhere/file')).toBe(value)
      expect(lstatSync(at('elsewhere/file')).isFile()).toBe(true)
    }
    for (const link of ['inner/one', 'two', 'three'])
      expect(lstatSync(at(link)).isSymbolicLink()).toBe(true)
    expect(readlinkSync(at('inner/one'))).toBe('../elsewhere/file')
    expect(readdirSync(at('elsewhere'))).toEqual(['file'])
  })

  test('has a name of up to 255 bytes', async () => {
    for (const name of ['n'.repeat(255), `${'ü'.repeat(127)}x`]) {
      await save(name)
      expect(await valueAt(name)).toBe(1)
    }
    expect(await errorOf('ERR_FILE_FORMAT', () => save('n'.repeat(256)))).toContain('ENAMETOOLONG')
  })

  test('is another one than its other hard links', async () => {
    writeFileSync(at('a'), 'old')
    linkSync(at('a'), at('b'))
    await save('a')
    expect(readFileSync(at('b'), 'utf8')).toBe('old')
  })

  test('is found by a relative path as it was at the call', async () => {
    const before = process.cwd()
    process.chdir(folder)
    const saved = saveSafetensors('here', { x: device.tensor([3]) })
    process.chdir(root)
    await saved
    process.chdir(before)
    expect(await valueAt('here')).toBe(3)
  })
})

describe('what is no regular file is neither replaced nor waited for', () => {
  const kinds: Record<string, () => unknown> = {
    FIFO: () => execFileSync('mkfifo', [at('x')]),
    folder: () => mkdirSync(at('x')),
    socket: () =>
      new Promise((resolve) =>
        createServer()
          .listen(at('x'), () => resolve(0))
          .unref(),
      ),
    'link to a FIFO': () => {
      execFileSync('mkfifo', [at('fifo')])
      symlinkSync(at('fifo'), at('x'))
    },
    'link to a folder': () => symlinkSync(folder, at('x')),
    'link to an open pipe': () => symlinkSync('/dev/stdin', at('x')),
    ...(isRoot && { device: () => execFileSync('mknod', [at('x'), 'c', '1', '3']) }),
  }
  test.each(Object.entries(kinds))('%s', async (kind, make) => {
    if (kind === 'link to an open pipe' && statSync('/dev/stdin').isFile()) return
    await make()
    const before = lstatSync(at('x'))
    const names = readdirSync(folder)
    expect(await errorOf('ERR_VALUE', () => save('x'))).toContain('"path"')
    expect(await errorOf('ERR_VALUE', () => loadSafetensors(at('x')))).toContain('"path"')
    await errorOf('ERR_VALUE', () => ValueTable.map(at('x'), 'x', { device }))
    expect(lstatSync(at('x'))).toMatchObject({ ino: before.ino, mode: before.mode })
    expect(readdirSync(folder)).toEqual(names)
  })

  test('a path that ends as a folder does', async () => {
    for (const name of ['x/', 'x/.', 'x/..', '.', '..', '']) {
      const path = `${folder}/${name}`
      const code = /^x\/\.?\.?$/.test(name) ? /./ : /folder/
      await expect(saveSafetensors(path, {})).rejects.toThrow(code)
    }
    symlinkSync('nothing/', at('link'))
    await errorOf('ERR_VALUE', () => save('link'))
    expect(readdirSync(folder)).toEqual(['link'])
  })
})

test('errors of the system have a code, and the cause', async () => {
  symlinkSync('loop', at('loop'))
  writeFileSync(at('file'), '')
  const cases: [string, string][] = [
    ['none/x', 'ENOENT'],
    ['file/x', 'ENOTDIR'],
    ['loop', 'ELOOP'],
  ]
  for (const [name, code] of cases) {
    const calls = [
      () => save(name),
      () => loadSafetensors(at(name)),
      () => ValueTable.map(at(name), 'x', { device }),
    ]
    for (const call of calls) {
      const message = await errorOf('ERR_FILE_FORMAT', call)
      expect(message).toContain(code)
      expect(message).toContain(at(name))
    }
  }
  const cause = await loadSafetensors(at('none')).catch((e) => e.cause)
  expect(cause).toMatchObject({ code: 'ENOENT', syscall: 'stat' })
  for (const path of [3, null, undefined, '', 'a\0b', Buffer.from('x')]) {
    await errorOf('ERR_VALUE', () => saveSafetensors(path as never, {}))
    await errorOf('ERR_VALUE', () => loadSafetensors(path as never))
    await errorOf('ERR_VALUE', () => ValueTable.map(path as never, 'x', { device }))
  }
})

test('the last of several saves to one file wins, however it is spelt', async () => {
  mkdirSync(at('inner'))
  symlinkSync('x', at('link'))
  symlinkSync('.', at('inner/self'))
  const spellings = [
    at('x'),
    at('link'),
    `${folder}/inner/../x`,
    relative(process.cwd(), at('x')),
    `${realpathSync(folder)}//inner/self/.././link`,
  ]
  const saves: Promise<void>[] = []
  for (let i = 0; i < 20; i++) {
    const size = i === 19 ? 1 : 20_000 // the last would overtake
    const x = device.tensor(new Float32Array(size).fill(i))
    saves.push(saveSafetensors(spellings[i % 5]!, { x }))
  }
  // one that fails does not stop those after it
  saves.splice(
    10,
    0,
    saveSafetensors(at('x/'), {}).catch(() => {}),
  )
  await Promise.all(saves)
  expect(await valueAt('x')).toBe(19)
  expect(readdirSync(folder).sort()).toEqual(['inner', 'link', 'x'])
})

test('temporary files of killed processes are removed, those of living ones are not', async () => {
  const script = new URL('../support/half-a-save.ts', import.meta.url).pathname
  const child = spawn(process.execPath, ['--import', 'tsx', script, at('x')], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  await new Promise((resolve) => child.stdout.once('data', resolve))
  const temporary = () => readdirSync(folder).filter((name) => name.endsWith('.tmp'))
  expect(temporary().length).toBe(1)
  await save('y')
  expect(temporary().length).toBe(1)
  const exit = new Promise((resolve) => child.once('exit', resolve))
  child.kill('SIGKILL')
  await exit
  expect(existsSync(at('x'))).toBe(false)
  await save('y')
  expect(readdirSync(folder)).toEqual(['y'])

  // Neither of this machine since its start nor a day old: its writer may live elsewhere.
  const foreign = '.memory-layers-12345678-0123456789abcdef.tmp'
  writeFileSync(at(foreign), '')
  writeFileSync(at('.memory-layers-mine.tmp'), '')
  symlinkSync('y', at('.memory-layers-12345678-0123456789abcde0.tmp'))
  await save('y')
  expect(readdirSync(folder).length).toBe(4)
  execFileSync('touch', ['-d', '2 days ago', at(foreign)])
  await save('y')
  expect(readdirSync(folder).length).toBe(3)
})

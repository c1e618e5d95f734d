import { spawnSync } from 'node:child_process'
import { existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, expect, test } from 'vitest'
import { cuda, installed, packageFolder, repository, tarball } from './support.js'

let folder: string
let files: string[]

beforeAll(() => {
  folder = packageFolder(installed())
  files = spawnSync('tar', ['tzf', tarball], { encoding: 'utf8' })
    .stdout.trim()
    .split('\n')
    .map((f) => f.replace(/^package\//, ''))
})

test('the tarball is below 8 MB, or 7 with one architecture, and has only what is used', () => {
  expect(statSync(tarball).size).toBeLessThan(cuda === 'all' ? 8e6 : 7e6)
  const topLevel = new Set(files.map((f) => f.split('/')[0]))
  expect([...topLevel].sort()).toEqual(
    [
      'CMakeLists.txt',
      'LICENSE',
      'README.md',
      'cmake',
      'dist',
      'examples',
      'native',
      'package.json',
      'prebuilds',
    ].sort(),
  )
  expect(files).toContain('examples/gpt.ts')
  expect(files.filter((f) => f.startsWith('examples/demo/'))).toEqual([])
  expect(files.filter((f) => f.startsWith('prebuilds/')).sort()).toEqual([
    'prebuilds/linux-arm64/memory-layers.glibc.node',
    'prebuilds/linux-x64/memory-layers.glibc.node',
  ])
})

test('nothing runs at installation', () => {
  const { scripts, gypfile } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'))
  for (const name of ['preinstall', 'install', 'postinstall'])
    expect(scripts).not.toHaveProperty(name)
  expect(gypfile).toBeUndefined()
  expect(files.filter((f) => /binding\.gyp|\.gypi$/.test(f))).toEqual([])
})

test('the files that package.json names exist, and dist/ has no path of the build machine', () => {
  const { exports, bin, main, types } = JSON.parse(
    readFileSync(join(folder, 'package.json'), 'utf8'),
  )
  const named = JSON.stringify([exports, bin, main, types]).match(/\.\/(dist\/|package)[^"]+/g)!
  expect(named.length).toBeGreaterThan(10)
  for (const file of named) expect(existsSync(join(folder, file)), file).toBe(true)
  for (const file of files.filter((f) => f.startsWith('dist/'))) {
    expect(readFileSync(join(folder, file), 'utf8').includes(repository), file).toBe(false)
  }
})

function tool(name: string, ...args: string[]): { status: number | null; output: string } {
  const { status, stdout, stderr } = spawnSync(
    join(repository, 'node_modules', '.bin', name),
    args,
    { encoding: 'utf8', cwd: repository },
  )
  return { status, output: stdout + stderr }
}

test('publint finds nothing', () => {
  const { status, output } = tool('publint', 'run', tarball, '--strict')
  expect(status, output).toBe(0)
  expect(output).toContain('All good')
})

// node10 can't resolve subpaths of any package with "exports"; Node itself has read them since
// version 12.
test('are the types wrong? They are not, for any resolution that reads "exports"', () => {
  const { status, output } = tool('attw', tarball, '--profile', 'node16', '--no-emoji')
  expect(status, output).toBe(0)
  for (const entry of ['"memory-layers"', '"memory-layers/nn"', '"memory-layers/tfjs"'])
    expect(output).toContain(entry)
})

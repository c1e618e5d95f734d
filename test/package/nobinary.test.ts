import { cpSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { beforeAll, describe, expect, test } from 'vitest'
import { copyOf, installed, packageFolder, run } from './support.js'

const everything = {
  PATH: process.env['PATH'],
  CMAKE_CXX_COMPILER_LAUNCHER: fileURLToPath(new URL('without-optimization.sh', import.meta.url)),
}
/** Prints the kind of a device, or the error of loading the package. */
const use = `
import('memory-layers').then(
  ({ openDevice }) => console.log(openDevice('cpu').kind),
  (e) => console.log(e.code, e.message),
)`

let whole: string
let folder: string
beforeAll(() => {
  whole = installed()
  folder = copyOf(whole)
  rmSync(join(packageFolder(folder), 'prebuilds'), { recursive: true })
})

describe('an installation without its prebuilt binary, on a machine without a compiler', () => {
  test('is an error when it is imported or required, with the command that builds one', () => {
    const { stdout } = run(folder, 'node', ['-e', use])
    expect(stdout).toMatch(
      /^ERR_NO_BINARY memory-layers: no native binary for linux-x64 \(glibc 2\.\d+\), Node \d+/,
    )
    expect(stdout).toContain('`npx memory-layers build`')
    expect(stdout).toContain(packageFolder(folder))
    const required = run(folder, 'node', [
      '-e',
      "try { require('memory-layers') } catch (e) { console.log(e.code) }",
    ])
    expect(required.stdout).toBe('ERR_NO_BINARY\n')
  })

  test('has a doctor that names what is missing and ends with code 1', () => {
    const { status, stdout, stderr } = run(folder, 'npx', ['memory-layers', 'doctor'])
    expect({ status, stderr }).toEqual({ status: 1, stderr: '' })
    expect(stdout).toMatch(/^Binary +none/m)
    expect(stdout).toMatch(/cmake +not found/)
    expect(stdout).toContain('Missing: cmake, a C++20 compiler, make.')
    expect(stdout).toMatch(/apt-get install cmake g\+\+ make/)
  })

  test('build names what is missing, and downloads nothing', () => {
    const { status, stderr } = run(folder, 'npx', ['memory-layers', 'build'])
    expect(status).toBe(1)
    expect(stderr).toContain('Missing: cmake, a C++20 compiler, make.')
  })
})

// The CPU alone: what nvcc adds is tested with the prebuilt binary.
test('build compiles it from source, and the doctor names the binary that is used', () => {
  const built = copyOf(folder)
  const { status, stdout, output } = run(
    built,
    'npx',
    ['memory-layers', 'build', '--cuda', 'off'],
    everything,
  )
  expect(status, output).toBe(0)
  expect(stdout).toMatch(
    /Built .*build\/Release\/memory_layers\.node in \d+ s\.\n {2}cpu: .*threads?\n/,
  )
  expect(run(built, 'node', ['-e', use]).output).toBe('cpu\n')
  const doctor = run(built, 'npx', ['memory-layers', 'doctor'])
  expect(doctor.status).toBe(0)
  expect(doctor.stdout).toMatch(/^Binary +build\/Release\/memory_layers\.node/m)
})

test('a binary that the system refuses: the error has the reason', () => {
  const broken = copyOf(whole)
  writeFileSync(
    join(packageFolder(broken), 'prebuilds/linux-x64/memory-layers.glibc.node'),
    'not a library',
  )
  const { stdout } = run(broken, 'node', ['-e', use])
  expect(stdout).toMatch(
    /^ERR_NO_BINARY memory-layers: .*memory-layers\.glibc\.node could not be loaded on linux-x64/,
  )
  expect(stdout).toMatch(/too short|invalid ELF header/)
  const doctor = run(broken, 'npx', ['memory-layers', 'doctor'])
  expect(doctor.status).toBe(1)
  expect(doctor.stdout).toMatch(/too short|invalid ELF header/)
})

test('a platform without a prebuilt binary: the error lists those there are', () => {
  const { stdout } = run(whole, 'node', ['-e', use], { LIBC: 'musl' })
  expect(stdout).toMatch(/^ERR_NO_BINARY/)
  expect(stdout).toContain('prebuilds has linux-arm64 (glibc), linux-x64 (glibc)')
})

test('code that a bundler has moved: the error says to leave it out of the bundle', () => {
  const moved = join(copyOf(whole), 'moved')
  mkdirSync(moved)
  cpSync(join(packageFolder(whole), 'dist'), join(moved, 'dist'), { recursive: true })
  writeFileSync(join(moved, 'package.json'), '{ "type": "module" }')
  const { stdout } = run(moved, 'node', [
    '-e',
    "import('./dist/index.js').catch((e) => console.log(e.code, e.message))",
  ])
  expect(stdout).toMatch(/^ERR_NO_BINARY .*a bundler has moved/)
  expect(stdout).toContain('--external:memory-layers')
})

import { mkdirSync, mkdtempSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { findDriver } from '../../lib/cli/driver.js'
import { formatEntry, wrapText } from '../../lib/cli/text.js'
import { installed, packageFolder, run } from './support.js'

let folder: string
beforeAll(() => {
  folder = installed()
})

const cli = (...args: string[]) => run(folder, 'npx', ['memory-layers', ...args])

describe('memory-layers on the command line', () => {
  test('doctor shows platform, binary, processor and devices, in 80 columns', () => {
    const { status, stdout, stderr } = cli('doctor')
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(stdout).toMatch(/^memory-layers \d+\.\d+\.\d+\n/)
    expect(stdout).toMatch(
      /^Platform +linux-x64 \(glibc 2\.\d+\), Node \d+\.\d+\.\d+ \(Node-API \d+\)/m,
    )
    expect(stdout).toMatch(/^Processor +\S.*, \d+ threads?$/m)
    expect(stdout).toMatch(/^Prebuilt +linux-arm64 \(glibc\), linux-x64 \(glibc\)$/m)
    expect(stdout).toMatch(/^Code for +(avx512vnni, )?(avx512, )?(avx2, )?baseline/m)
    expect(stdout).toMatch(/^cpu +usable: .*, \d+ threads?, [\d.]+ GB$/m)
    expect(stdout).toMatch(/The (CPU|GPU and the CPU) can be used/)
    for (const line of stdout.split('\n'))
      if (!line.includes(packageFolder(folder))) expect(line.length, line).toBeLessThanOrEqual(80)
  })

  test('doctor names the settings that change what is used, and a wrong one', () => {
    const forced = run(folder, 'npx', ['memory-layers', 'doctor'], {
      MEMORY_LAYERS_ISA: 'baseline',
      CUDA_VISIBLE_DEVICES: '-1',
    })
    expect(forced.stdout).toMatch(
      /^Settings +MEMORY_LAYERS_ISA=baseline\n +CUDA_VISIBLE_DEVICES=-1$/m,
    )
    expect(forced.stdout).toMatch(/^cpu +usable: .*baseline/m)
    const wrong = run(folder, 'npx', ['memory-layers', 'doctor'], { MEMORY_LAYERS_ISA: 'avx9' })
    expect(wrong.status).toBe(1)
    expect(wrong.stdout).toMatch(/MEMORY_LAYERS_ISA is "avx9"/)
  })

  test('a misspelt command or option is refused with the right name', () => {
    expect(cli('docter')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('Did you mean "doctor"?'),
    })
    expect(cli('doctor', '--verbose')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('takes no arguments'),
    })
    expect(cli('build', '--cuda', 'maybe')).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('auto, on or off'),
    })
    expect(cli('build', '--cude', 'on').status).toBe(2)
    expect(cli('build', '-D', 'NAME').status).toBe(2)
  })

  test('--version and --help', () => {
    expect(cli('--version').stdout).toMatch(/^\d+\.\d+\.\d+\n$/)
    expect(cli('--help')).toMatchObject({
      status: 0,
      stdout: expect.stringContaining('npx memory-layers <command>'),
    })
    expect(cli()).toMatchObject({ status: 2 })
  })
})

/** A root of a file system with these files. */
function system(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'memory-layers-system-'))
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, name)), { recursive: true })
    writeFileSync(join(root, name), text)
  }
  return root
}

describe('the driver, as files show it', () => {
  const kernelModule = 'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64'
  const version = (v: string) => ({
    'proc/driver/nvidia/version': `${kernelModule}  ${v}  Release Build\n`,
  })
  const gpu = {
    'proc/driver/nvidia/gpus/0000:01:00.0/information':
      'Model: \t\t NVIDIA H100 80GB HBM3\nIRQ: 12\n',
  }
  const library = { 'usr/lib/x86_64-linux-gnu/libcuda.so.1': '' }

  test('no problem where driver, GPU and library are there', () => {
    const root = system({ ...version('580.65.06'), ...gpu, ...library })
    expect(findDriver(undefined, root, {})).toEqual({
      version: '580.65.06',
      gpus: ['NVIDIA H100 80GB HBM3'],
      library: join(root, 'usr/lib/x86_64-linux-gnu/libcuda.so.1'),
      problem: undefined,
    })
  })

  test.each([
    [
      'no driver',
      {},
      {},
      /no NVIDIA driver is loaded.*580 or newer, which the binary's CUDA 13\.0 needs/,
    ],
    [
      'an old driver',
      { ...version('535.104.05'), ...gpu, ...library },
      {},
      /driver 535\.104\.05 of NVIDIA H100 80GB HBM3 is too old .*CUDA 13\.0\. Install 580 .*12\.4/,
    ],
    [
      'a container without the library',
      { ...version('580.65.06'), ...gpu },
      {},
      /libcuda\.so\.1 was not found.*--gpus all/,
    ],
    [
      'GPUs that are hidden',
      { ...version('580.65.06'), ...gpu, ...library },
      { CUDA_VISIBLE_DEVICES: '' },
      /hides every GPU/,
    ],
  ])('%s', (_, files, env, wanted) => {
    expect(findDriver(undefined, system(files), env).problem).toMatch(wanted)
  })

  test('a binary of CUDA 12 needs an older one', () => {
    const cuda = { version: '12.9', driver: 525 }
    const problem = (v: string) =>
      findDriver(cuda, system({ ...version(v), ...gpu, ...library }), {}).problem
    expect(problem('535.104.05')).toBeUndefined()
    expect(problem('470.57.02')).toMatch(
      /driver 470\.57\.02 of .* CUDA 12\.9\. Install 525 or newer\.$/,
    )
  })
})

test('text is wrapped at spaces, and a long word stays whole', () => {
  expect(wrapText('one two three', 7)).toEqual(['one two', 'three'])
  expect(wrapText('a/very/long/path short', 5)).toEqual(['a/very/long/path', 'short'])
  expect(formatEntry('label', 'x'.repeat(60).replace(/.{6}/g, 'words '))).toMatch(/^label {7}words/)
})

import { spawnSync } from 'node:child_process'
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import {
  emptyFolder,
  installed,
  newcomer,
  packageFolder,
  pathWith,
  program,
  repository,
  run,
  tarball,
  typescript,
} from './support.js'

let folder: string
beforeAll(() => {
  folder = installed()
})

test('npm install and the first sample of the README: under 30 s, without a warning', () => {
  const empty = emptyFolder()
  const sample = /```ts\n(import [^`]+ from 'memory-layers'[^`]+)```/.exec(
    readFileSync(join(repository, 'README.md'), 'utf8'),
  )?.[1]
  expect(sample).toBeDefined()
  const start = performance.now()
  const install = run(empty, 'npm', ['install', tarball])
  expect(install).toMatchObject({ status: 0, stderr: '' })
  expect(install.stdout).toMatch(/added 2 packages/)
  writeFileSync(join(empty, 'sample.mjs'), sample!)
  cpSync(join(repository, 'README.md'), join(empty, 'README.md')) // the text that it learns
  const { status, stdout, stderr } = run(empty, 'node', ['sample.mjs'])
  const seconds = (performance.now() - start) / 1000
  console.log(`from an empty folder to the sample's output: ${seconds.toFixed(1)} s`)
  expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
  const losses = stdout.trim().split('\n').map(Number)
  expect(losses).toHaveLength(40)
  expect(losses.at(-1)).toBeLessThan(losses[0]!)
  expect(seconds).toBeLessThan(30)
})

test('an installation is the package and node-gyp-build', () => {
  expect(readdirSync(join(folder, 'node_modules')).filter((n) => !n.startsWith('.'))).toEqual([
    'memory-layers',
    'node-gyp-build',
  ])
  const path = newcomer
  for (const tool of ['c++', 'g++', 'cmake', 'make', 'nvcc']) {
    expect(() => run(folder, tool, ['--version'], { PATH: path }), tool).toThrow(/ENOENT/)
  }
})

describe.each(['NODE_20', 'NODE_22', 'NODE_24'])('%s', (name) => {
  const node = program(name)

  test('is that version', () => {
    expect(run(folder, node, ['--version']).stdout).toMatch(new RegExp(`^v${name.slice(5)}\\.`))
  })

  test('as an ES module', () => {
    const { status, stdout, stderr } = run(folder, node, ['esm.mjs'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    const { losses, top, code, devices } = JSON.parse(stdout)
    expect(losses).toHaveLength(10)
    expect(losses.at(-1)).toBeLessThan(losses[0])
    expect({ top, code }).toEqual({ top: [0, 2], code: 'ERR_DEVICE' })
    expect(new Set(devices)).toEqual(new Set(['cpu', 'cuda'])) // with or without a driver
  })

  test('as CommonJS', () => {
    const { status, stdout, stderr } = run(folder, node, ['commonjs.cjs'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({ shape: [64, 4], same: true, nn: 'function' })
  })

  test('in worker threads', () => {
    const { status, stdout, stderr } = run(folder, node, ['workers.mjs'])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(JSON.parse(stdout)).toEqual({ same: true })
  })
})

// The consumer has no @types/node, and checks the package's own declarations too.
describe.each([
  ['an ES module', 'module', 'nodenext', 'nodenext'],
  ['CommonJS', 'commonjs', 'nodenext', 'nodenext'],
  ['a bundler', 'module', 'esnext', 'bundler'],
])('TypeScript as %s', (_, type, module, moduleResolution) => {
  test('is type-checked strictly, and runs', () => {
    const consumer = installed()
    writeFileSync(join(consumer, 'package.json'), JSON.stringify({ type }))
    const compilerOptions = {
      target: 'es2022',
      module,
      moduleResolution,
      strict: true,
      skipLibCheck: false,
      types: [],
      outDir: 'out',
    }
    writeFileSync(
      join(consumer, 'tsconfig.json'),
      JSON.stringify({ compilerOptions, files: ['typed.ts'] }),
    )
    const { status, stdout } = spawnSync(process.execPath, [typescript(), '-p', '.'], {
      cwd: consumer,
      encoding: 'utf8',
    })
    expect({ status, stdout }).toEqual({ status: 0, stdout: '' })
    expect(run(consumer, 'node', ['out/typed.js'])).toMatchObject({ status: 0, output: '' })
  })
})

test('under pnpm, which runs no scripts and links nothing flat', () => {
  const project = emptyFolder()
  writeFileSync(join(project, 'package.json'), '{ "name": "consumer", "private": true }\n')
  const pnpm = [program('PNPM'), '--config.update-notifier=false']
  const env = {
    PATH: pathWith('node', 'sh', 'env', 'sed', 'dirname', 'uname'),
    PNPM_HOME: join(project, '.pnpm'),
    npm_config_store_dir: join(project, '.store'),
  }
  const added = run(project, 'node', [...pnpm, 'add', tarball], env)
  expect(added, added.output).toMatchObject({ status: 0 })
  expect(added.output).not.toMatch(/warn|ignored build scripts/i)
  writeFileSync(join(project, 'esm.mjs'), readFileSync(join(folder, 'esm.mjs')))
  const used = run(project, 'node', ['esm.mjs'])
  expect(used).toMatchObject({ status: 0, stderr: '' })
  const doctor = run(project, 'node', [...pnpm, 'exec', 'memory-layers', 'doctor'], env)
  expect(doctor, doctor.output).toMatchObject({
    status: 0,
    stdout: expect.stringMatching(/^The .*CPU can be used/m),
  })
})

test('the adapter for TensorFlow.js loads without TensorFlow.js, which is handed in', () => {
  const { status, stdout, stderr } = run(folder, 'node', [
    '-e',
    "import('memory-layers/tfjs').then((m) => console.log(typeof m.asFunction))",
  ])
  expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: 'function\n', stderr: '' })
})

test('the prebuilt file is the one that is loaded', () => {
  const { stdout } = run(folder, 'npx', ['memory-layers', 'doctor'])
  expect(stdout).toMatch(/^Binary +prebuilds\/linux-(x64|arm64)\/memory-layers\.glibc\.node/m)
  expect(stdout).toContain(packageFolder(folder))
})

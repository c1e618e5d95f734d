// npx memory-layers build: compiles the native binary into build/Release, where it is found before
// the prebuilt one.

import { type SpawnSyncReturns, spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { availableParallelism } from 'node:os'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { findBinary, root, transportTarget } from '../binary.js'
import { compileTransport, probeTransport } from './mpi.js'
import { probe } from './probe.js'
import { print, printError } from './text.js'
import { toolchain } from './toolchain.js'

/**
 * The npm packages a build needs besides the system's compiler: a driver of CMake, and the C++
 * headers of Node-API.
 */
const tools = ['cmake-js', 'node-addon-api'] as const

export function build(args: string[]): number {
  // parseArgs knows no option whose value may be left out.
  const options = parseOptions(args.map((arg) => (arg === '--mpi' ? '--mpi=' : arg)))
  if ('problem' in options) return fail(options.problem, 2)
  if (!existsSync(join(root, 'CMakeLists.txt'))) return fail(`the sources are not in ${root}.`)

  const { lines, missing } = toolchain()
  for (const { tool, found } of lines) print(`${tool.padEnd(8)}${found}`)
  if (missing) return fail(missing)

  const found = findTools() ?? installTools()
  if (typeof found === 'string') return fail(found)
  if (options.mpi !== undefined) return buildTransport(options.mpi, found.include)

  const start = performance.now()
  const problem = compile(found, options.definitions)
  if (problem) return fail(problem)
  const result = probe()
  if ('problem' in result) return fail(`it was compiled, but does not work: ${result.problem}`)
  print(`\nBuilt ${findBinary()} in ${((performance.now() - start) / 1000).toFixed(0)} s.`)
  for (const device of result.found.devices)
    print(
      `  ${device.name}: ${device.available ? device.description : `not usable: ${device.reason}`}`,
    )
  return 0
}

function buildTransport(wrapper: string, headers: readonly string[]): number {
  const problem = compileTransport(wrapper, headers)
  if (problem) return fail(problem)
  const result = probeTransport()
  if (result && 'library' in result) {
    print(`\nBuilt ${transportTarget} with ${result.library}.`)
    return 0
  }
  return fail(`it was compiled, but does not work: ${result?.problem ?? 'it is not there.'}`)
}

interface BuildOptions {
  definitions: string[]
  /** Build the addon for MPI with this wrapper; '': with the one that is found. */
  mpi: string | undefined
}

function parseOptions(args: string[]): BuildOptions | { problem: string } {
  try {
    const { values } = parseArgs({
      args,
      options: {
        cuda: { type: 'string', default: 'auto' },
        mpi: { type: 'string' },
        define: { type: 'string', short: 'D', multiple: true },
      },
    })
    if (!['auto', 'on', 'off'].includes(values.cuda))
      return { problem: `--cuda must be auto, on or off, got "${values.cuda}".` }
    const defined = values.define ?? []
    const wrong = defined.find((d) => !/^\w+=/.test(d))
    if (wrong) return { problem: `-D must be NAME=VALUE, got "${wrong}".` }
    const backends = [`ML_CUDA=${values.cuda.toUpperCase()}`, architectures(), 'ML_SIMT=OFF']
    return { definitions: [...backends, ...defined], mpi: values.mpi }
  } catch (error) {
    return { problem: (error as Error).message }
  }
}

/**
 * CUDA code for the GPUs of this machine; where none is seen, such as in the build of an image, for
 * all that a release has.
 */
function architectures(): string {
  const { status, stdout } = spawnSync(
    'nvidia-smi',
    ['--query-gpu=compute_cap', '--format=csv,noheader'],
    { encoding: 'utf8' },
  )
  const found =
    status === 0 ? [...new Set(stdout.match(/\d+\.\d+/g))].map((c) => c.replace('.', '')) : []
  return found.length > 0 ? `CMAKE_CUDA_ARCHITECTURES=${found.join(';')}` : 'ML_CUDA_ALL=ON'
}

interface Tools {
  cmakeJs: string
  /** Folders of headers: Node-API's own, and its C++ wrapper's. */
  include: string[]
}

/** Looks in the package, the project it is installed in, and an earlier build. */
function findTools(): Tools | undefined {
  for (const folder of [root, process.cwd(), toolFolder()]) {
    const require = createRequire(join(folder, 'package.json'))
    try {
      const cmakeJs = require.resolve('cmake-js/bin/cmake-js')
      const headers: { include_dir: string } = createRequire(cmakeJs)('node-api-headers')
      return {
        cmakeJs,
        include: [headers.include_dir, dirname(require.resolve('node-addon-api/napi.h'))],
      }
    } catch {}
  }
  return undefined
}

function installTools(): Tools | string {
  const { devDependencies } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  const wanted = tools.map((name) => `${name}@${devDependencies[name]}`)
  print(`\nFetching ${wanted.join(' and ')} with npm…`)
  mkdirSync(toolFolder(), { recursive: true })
  writeFileSync(join(toolFolder(), 'package.json'), '{ "private": true }\n')
  const quiet = [
    '--no-audit',
    '--no-fund',
    '--ignore-scripts',
    '--no-package-lock',
    '--loglevel=error',
  ]
  const { status, stderr, error } = npm(['install', ...quiet, ...wanted], toolFolder())
  const found = status === 0 ? findTools() : undefined
  if (found) return found
  return (
    `npm could not install them: ${error?.message ?? stderr.trim()}\n` +
    '  Add them to your project, then run the build again:\n' +
    `  npm install --save-dev ${wanted.join(' ')}`
  )
}

/** Runs npm without what an npm, npx or pnpm above has set for another project. */
function npm(args: string[], cwd: string): SpawnSyncReturns<string> {
  const env = Object.fromEntries(
    Object.entries(process.env).filter(
      ([name]) => !/^npm_(config_(local_)?prefix|package|lifecycle)/i.test(name),
    ),
  )
  return spawnSync('npm', args, { cwd, env, encoding: 'utf8', shell: process.platform === 'win32' })
}

function toolFolder(): string {
  return join(root, 'build', 'tools')
}

/** Returns what went wrong; undefined if nothing did. */
function compile({ cmakeJs, include }: Tools, definitions: string[]): string | undefined {
  const all = ['CMAKE_BUILD_TYPE=Release', `CMAKE_JS_INC=${include.join(';')}`, ...definitions]
  const common = [
    '--directory',
    root,
    '--log-level',
    'error',
    '--target',
    'memory_layers',
    '--parallel',
    String(availableParallelism()),
  ]
  print('')
  // The cache would keep definitions of an earlier build.
  rmSync(join(root, 'build', 'CMakeCache.txt'), { force: true })
  // Configure, then build: `cmake-js compile` does all of it twice after an error.
  for (const step of ['configure', 'build']) {
    const { status } = spawnSync(
      process.execPath,
      [cmakeJs, step, ...common, ...all.map((d) => `--CD${d}`)],
      { stdio: 'inherit' },
    )
    if (status !== 0) {
      const ending = `step "${step}" ended with code ${status}`
      return `the compiler's messages above say what went wrong; ${ending}.`
    }
  }
  return undefined
}

function fail(problem: string, code = 1): number {
  printError(`\nmemory-layers build: ${problem}`)
  return code
}

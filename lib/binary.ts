// Where the native binary is, and what to say when there is none. Loads nothing: the command line
// works without a binary.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import nodeModule from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

// A bundle in CommonJS has no import.meta, or that of the file it was made from. File tracers
// evaluate these lines; the older ones, such as that of Next.js 15, only where the first operand is
// `__dirname`, which CommonJS gets for import.meta.dirname.
const here =
  import.meta.dirname || dirname(import.meta.url ? fileURLToPath(import.meta.url) : __filename)
const bundle = typeof __filename === 'string' ? dirname(__filename) : here

/** The package's folder: one level above lib/ and dist/ alike. */
export const root = dirname(here)

/** 'linux-x64 (glibc 2.36), Node 20.20.2' */
export function platform(): string {
  const libc = libcName()
  const system = `${process.platform}-${process.arch}${libc ? ` (${libc})` : ''}`
  return `${system}, Node ${process.versions.node}`
}

/** 'glibc 2.36' or 'musl' on Linux, '' elsewhere. */
export function libcName(): string {
  if (process.platform !== 'linux') return ''
  const report = process.report as unknown as {
    excludeNetwork?: boolean
    getReport(): { header: { glibcVersionRuntime?: string } }
  }
  const { excludeNetwork } = report
  report.excludeNetwork = true // looking up host names can take seconds
  const version = report.getReport().header.glibcVersionRuntime
  if (excludeNetwork !== undefined) report.excludeNetwork = excludeNetwork
  return version ? `glibc ${version}` : 'musl'
}

/**
 * The file that is loaded: one that was copied beside a bundle, a build of this machine, or the
 * prebuilt one. Undefined if there is none.
 */
export function findBinary(): string | undefined {
  for (const place of new Set([here, bundle])) {
    const copied = filesOf(place).find((name) => /^memory[-_]layers\b.*\.node$/.test(name))
    if (copied) return join(place, copied)
  }
  const folder = process.env['MEMORY_LAYERS_PREBUILD']
  // Here as a path, though node-gyp-build looks there too: file tracers follow it.
  const built = join(root, 'build', 'Release', 'memory_layers.node')
  if (!folder && !process.env['PREBUILDS_ONLY'] && existsSync(built)) return built
  const locate = locator()
  for (const place of folder ? [folder] : [root, here]) {
    try {
      if (locate) return locate.path(place)
    } catch {}
  }
  return undefined
}

/**
 * The addon for MPI, which `npx memory-layers build --mpi` compiles on the machine: the file that
 * MEMORY_LAYERS_MPI names, or the build in the package. Undefined if there is none.
 */
export function findTransport(): string | undefined {
  const file = process.env['MEMORY_LAYERS_MPI'] ?? transportTarget
  return existsSync(file) ? file : undefined
}

/** Where a build of the addon for MPI goes. */
export const transportTarget = join(root, 'build', 'Release', 'memory_layers_mpi.node')

interface Locator {
  path(folder: string): string
}

/** The package node-gyp-build; undefined where a bundle was moved away from it. */
function locator(): Locator | undefined {
  try {
    // File tracers follow a plain require, which an ES module has not.
    return typeof require === 'function'
      ? require('node-gyp-build')
      : requireFrom(join(here, 'binary.js'))('node-gyp-build')
  } catch {
    return undefined
  }
}

/** The `require` of a file. Not createRequire by name: webpack takes calls of that out. */
export function requireFrom(file: string): NodeJS.Require {
  return nodeModule.createRequire(file)
}

function filesOf(folder: string): string[] {
  try {
    return readdirSync(folder).sort()
  } catch {
    return []
  }
}

/** The prebuilt binaries in this package: ['linux-arm64 (glibc)', 'linux-x64 (glibc)']. */
export function prebuilds(): string[] {
  const folder = join(root, 'prebuilds')
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .sort()
    .flatMap((name) =>
      readdirSync(join(folder, name)).map((file) => {
        const libc = /\.(glibc|musl)\.node$/.exec(file)?.[1]
        return libc ? `${name} (${libc})` : name
      }),
    )
}

/** Why no binary is in use, and what helps. `cause` is what loading `file` threw. */
export function noBinary(file: string | undefined, cause?: unknown): string {
  const reason =
    cause instanceof Error ? cause.message.split('\n')[0] : cause === undefined ? '' : String(cause)
  const refused = `${file} could not be loaded on ${platform()}.\n  ${reason}`
  if (!isPackage()) {
    const missing =
      `its native binary can't be found from ${here}: ` +
      'a bundler has moved the code away from its package.'
    return (
      `memory-layers: ${file ? refused : missing}\n` +
      '  Leave memory-layers out of the bundle ' +
      '(esbuild: --external:memory-layers, Next.js: serverExternalPackages),\n' +
      '  or copy the file of this platform from node_modules/memory-layers/prebuilds beside it.'
    )
  }
  if ((cause as NodeJS.ErrnoException | undefined)?.code === 'ERR_DLOPEN_DISABLED')
    return `memory-layers: ${refused}\n  With Node's permission model, run with --allow-addons.`
  if (!file && !locator()) {
    return (
      'memory-layers: its dependency node-gyp-build, which finds the native binary, ' +
      'is not there.\n' +
      `  Looked from ${root}. Install it, or copy it along with memory-layers.`
    )
  }
  const shipped = prebuilds().join(', ') || 'none'
  const none =
    `no native binary for ${platform()}.\n` +
    `  Looked in ${root}: build/Release has none, prebuilds has ${shipped}.`
  return (
    `memory-layers: ${file ? refused : none}\n` +
    '  Run `npx memory-layers build` to compile it here (it needs cmake and a C++20 compiler);\n' +
    '  `npx memory-layers doctor` says what this machine has.'
  )
}

function isPackage(): boolean {
  return packageFields().name === 'memory-layers'
}

/** This package's version; 'unknown' where a bundler has moved the code away from it. */
export function packageVersion(): string {
  return (isPackage() && packageFields().version) || 'unknown'
}

function packageFields(): { name?: string; version?: string } {
  try {
    return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
  } catch {
    return {}
  }
}

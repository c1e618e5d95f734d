// Where the native binary is, and what to say when there is none. Loads nothing: the command line
// works without a binary.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

/** The package's folder: one level above lib/ and dist/ alike. */
export const root = dirname(dirname(fileURLToPath(import.meta.url)))

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
 * The file that is loaded: a build of this machine, else the prebuilt one. Undefined if there is
 * neither.
 */
export function findBinary(): string | undefined {
  const locate = createRequire(import.meta.url)('node-gyp-build') as {
    path(folder: string): string
  }
  try {
    return locate.path(root)
  } catch {
    return undefined
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

/** Why no binary is in use, and the command that helps. `cause` is what loading `file` threw. */
export function noBinary(file: string | undefined, cause?: unknown): string {
  if (!isPackage()) {
    return (
      `memory-layers: its native binary can't be found from ${root}: ` +
      'a bundler has moved the code away from its package.\n' +
      '  Leave memory-layers out of the bundle ' +
      '(esbuild: --external:memory-layers, Next.js: serverExternalPackages).'
    )
  }
  const reason =
    cause instanceof Error ? cause.message.split('\n')[0] : cause === undefined ? '' : String(cause)
  const shipped = prebuilds().join(', ') || 'none'
  const found = file
    ? `${file} could not be loaded on ${platform()}.\n  ${reason}`
    : `no native binary for ${platform()}.\n` +
      `  Looked in ${root}: build/Release has none, prebuilds has ${shipped}.`
  return (
    `memory-layers: ${found}\n` +
    '  Run `npx memory-layers build` to compile it here (it needs cmake and a C++20 compiler);\n' +
    '  `npx memory-layers doctor` says what this machine has.'
  )
}

function isPackage(): boolean {
  try {
    return JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')).name === 'memory-layers'
  } catch {
    return false
  }
}

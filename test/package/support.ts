// The machine of a user: an empty folder outside the repository, a PATH with only Node and npm, and
// the packed tarball.

import { spawnSync } from 'node:child_process'
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterAll } from 'vitest'

export const repository = fileURLToPath(new URL('../..', import.meta.url))
export const programs = fileURLToPath(new URL('programs', import.meta.url))
export const tarball = program('TARBALL')
/**
 * What the linux-x64 binary was built with: '' for no CUDA, 'all' for the architectures of a
 * release, or a list.
 */
export const cuda = process.env['PACKAGE_CUDA'] ?? ''

/** A file that scripts/test-package.mjs has prepared. */
export function program(name: string): string {
  const path = process.env[`PACKAGE_${name}`]
  if (!path || !existsSync(path))
    throw new Error(`PACKAGE_${name} is not set: run \`npm run test:package\``)
  return path
}

const folders: string[] = []
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true })
})

export function emptyFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), 'memory-layers-package-'))
  folders.push(folder)
  return folder
}

/**
 * A PATH of one folder with these commands of the machine in it: no compiler, no cmake, no nvcc.
 */
export function pathWith(...commands: string[]): string {
  const folder = join(emptyFolder(), 'bin')
  mkdirSync(folder)
  for (const command of commands) {
    const found = (process.env['PATH'] ?? '')
      .split(delimiter)
      .find((f) => existsSync(join(f, command)))
    if (!found) throw new Error(`${command} is not on the PATH of this machine`)
    symlinkSync(join(found, command), join(folder, command))
  }
  return folder
}

export const newcomer = pathWith('node', 'npm', 'npx', 'sh', 'env')

export interface Result {
  status: number | null
  stdout: string
  stderr: string
  output: string
}

/**
 * Runs a command in a folder, with the environment of a fresh shell: nothing of the npm that runs
 * these tests.
 */
export function run(
  folder: string,
  command: string,
  args: string[],
  env: NodeJS.ProcessEnv = {},
): Result {
  const prefixes = /^(npm_|NODE_|VITEST|PACKAGE_|MEMORY_LAYERS_|CMAKE_|CUDA)/i
  const names = /^(INIT_CWD|TEST|DEV|PROD|MODE|SSR|BASE_URL)$/i
  const inherited = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !prefixes.test(name) && !names.test(name)),
  )
  const npm = {
    NODE_EXTRA_CA_CERTS: process.env['NODE_EXTRA_CA_CERTS'],
    npm_config_cache: process.env['npm_config_cache'],
  }
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: folder,
    env: { ...inherited, PATH: newcomer, ...npm, ...env } as NodeJS.ProcessEnv,
    encoding: 'utf8',
    timeout: 420_000,
  })
  if (error) throw error
  return { status, stdout, stderr, output: stdout + stderr }
}

/** A folder with the tarball installed by npm, and the programs beside it. */
export function installed(): string {
  const folder = emptyFolder()
  writeFileSync(join(folder, 'package.json'), '{ "name": "consumer", "private": true }\n')
  const { status, output } = run(folder, 'npm', ['install', '--prefer-offline', tarball])
  if (status !== 0) throw new Error(output)
  cpSync(programs, folder, { recursive: true })
  return folder
}

/** A copy of an installation, to break. */
export function copyOf(folder: string): string {
  const copy = emptyFolder()
  cpSync(folder, copy, { recursive: true, verbatimSymlinks: true })
  return copy
}

export function packageFolder(folder: string): string {
  return join(folder, 'node_modules', 'memory-layers')
}

export function typescript(): string {
  return join(dirname(dirname(fileURLToPath(import.meta.resolve('typescript')))), 'bin', 'tsc')
}

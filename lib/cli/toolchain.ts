// What a source build needs from the system, tried, not guessed; and the command that installs what
// is missing.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface Toolchain {
  /** Each tool and what was found of it. */
  lines: { tool: string; found: string }[]
  /** What is missing and how to install it; undefined if nothing is. */
  missing: string | undefined
}

type Need = 'cmake' | 'compiler' | 'make'

export function toolchain(): Toolchain {
  const usesMake = process.platform !== 'win32'
  const cmake = findCmake()
  const compiler = findCompiler()
  const make = findMake()
  const nvcc = firstLine('nvcc', ['--version'], /release .*/)
  const lines = [
    { tool: 'cmake', found: cmake.found },
    { tool: 'C++20', found: compiler.found },
    ...(usesMake ? [{ tool: 'make', found: make.found }] : []),
    { tool: 'nvcc', found: nvcc ?? 'not found; the binary is then for the CPU alone' },
  ]
  const needed: Need[] = []
  if (!cmake.ok) needed.push('cmake')
  if (!compiler.ok) needed.push('compiler')
  if (usesMake && !make.ok) needed.push('make')
  return { lines, missing: needed.length > 0 ? howToInstall(needed) : undefined }
}

const cpp20Program = `#include <concepts>
template <std::integral T> T f(T x) { return x; }
int main() { return f(0); }
`

interface Found {
  ok: boolean
  found: string
}

function findCmake(): Found {
  const version = firstLine('cmake', ['--version'], /\d+\.\d+\S*/)
  if (!version) return { ok: false, found: 'not found, 3.20 or newer is needed' }
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const ok = major > 3 || (major === 3 && minor >= 20)
  return { ok, found: ok ? version : `${version} is too old, 3.20 or newer is needed` }
}

/**
 * The compiler that CMake finds: CXX if set, else the first of the usual names. It must accept a
 * C++20 program.
 */
function findCompiler(): Found {
  if (process.platform === 'win32')
    return { ok: true, found: 'looked for by CMake: Visual Studio with the C++ tools' }
  const names = process.env['CXX'] ? [process.env['CXX']] : ['c++', 'g++', 'clang++']
  const compiler = names.find((name) => run(name, ['--version']) !== undefined)
  if (!compiler) return { ok: false, found: `not found: ${names.join(', ')}` }
  const described = firstLine(compiler, ['--version'], /.*/) ?? compiler
  const { status } = spawnSync(compiler, ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], {
    input: cpp20Program,
  })
  return {
    ok: status === 0,
    found: status === 0 ? described : `${described} does not compile C++20`,
  }
}

function findMake(): Found {
  const ninja = firstLine('ninja', ['--version'], /.*/)
  if (ninja) return { ok: true, found: `ninja ${ninja}` }
  const make = firstLine('make', ['--version'], /.*/)
  return make ? { ok: true, found: make } : { ok: false, found: 'neither ninja nor make was found' }
}

function howToInstall(needed: readonly Need[]): string {
  const missing = needed.map((n) => (n === 'compiler' ? 'a C++20 compiler' : n)).join(', ')
  return `Missing: ${missing}. Install with:\n  ${installCommand(needed)}`
}

function installCommand(needed: readonly Need[]): string {
  if (process.platform === 'darwin')
    return `xcode-select --install${needed.includes('cmake') ? ' && brew install cmake' : ''}`
  if (process.platform === 'win32') return 'winget install Kitware.CMake'
  const known = managers.find((manager) => manager.families.test(release()))
  const { install, packages } = known ?? { install: 'your package manager:', packages: debian }
  return `${install} ${needed.map((n) => packages[n]).join(' ')}`
}

const debian: Record<Need, string> = { cmake: 'cmake', compiler: 'g++', make: 'make' }
const redHat: Record<Need, string> = { cmake: 'cmake', compiler: 'gcc-c++', make: 'make' }
const arch: Record<Need, string> = { cmake: 'cmake', compiler: 'gcc', make: 'make' }

// Families by their names in /etc/os-release.
const managers = [
  { families: /debian|ubuntu/, install: 'apt-get install', packages: debian },
  { families: /alpine/, install: 'apk add', packages: debian },
  { families: /fedora|rhel|centos/, install: 'dnf install', packages: redHat },
  { families: /suse/, install: 'zypper install', packages: redHat },
  { families: /arch/, install: 'pacman -S', packages: arch },
]

function release(): string {
  try {
    return (readFileSync('/etc/os-release', 'utf8').match(/^ID(_LIKE)?=.*$/gm) ?? []).join(' ')
  } catch {
    return ''
  }
}

function run(command: string, args: string[]): string | undefined {
  const { status, stdout } = spawnSync(command, args, { encoding: 'utf8' })
  return status === 0 ? stdout : undefined
}

function firstLine(command: string, args: string[], pattern: RegExp): string | undefined {
  return pattern.exec(run(command, args) ?? '')?.[0]
}

// What a source build needs from the system, tried, not guessed; and the command that installs what
// is missing.

import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'

export interface Toolchain {
  /** Each tool and what was found of it. */
  lines: [tool: string, found: string][]
  /** What is missing and how to install it; undefined if nothing is. */
  missing: string | undefined
}

export function toolchain(): Toolchain {
  const cmake = cmakeTool()
  const compiler = compilerTool()
  const maker = makeTool()
  const nvcc = firstLine('nvcc', ['--version'], /release .*/)
  const lines: [string, string][] = [
    ['cmake', cmake.found],
    ['C++20', compiler.found],
    ...(process.platform === 'win32' ? [] : ([['make', maker.found]] as [string, string][])),
    ['nvcc', nvcc ?? 'not found; the binary is then for the CPU alone'],
  ]
  const needed = [
    ...(cmake.ok ? [] : ['cmake']),
    ...(compiler.ok ? [] : ['compiler']),
    ...(maker.ok || process.platform === 'win32' ? [] : ['make']),
  ]
  return { lines, missing: needed.length > 0 ? howToInstall(needed) : undefined }
}

interface Found {
  ok: boolean
  found: string
}

function cmakeTool(): Found {
  const version = firstLine('cmake', ['--version'], /\d+\.\d+\S*/)
  if (!version) return { ok: false, found: 'not found, 3.20 or newer is needed' }
  const [major = 0, minor = 0] = version.split('.').map(Number)
  const ok = major > 3 || (major === 3 && minor >= 20)
  return { ok, found: ok ? version : `${version} is too old, 3.20 or newer is needed` }
}

/**
 * The compiler CMake will take: CXX if set, else the first of the usual names. It must accept a
 * C++20 program.
 */
function compilerTool(): Found {
  if (process.platform === 'win32')
    return { ok: true, found: 'looked for by CMake: Visual Studio with the C++ tools' }
  const names = process.env['CXX'] ? [process.env['CXX']] : ['c++', 'g++', 'clang++']
  const compiler = names.find((name) => run(name, ['--version']) !== undefined)
  if (!compiler) return { ok: false, found: `not found: ${names.join(', ')}` }
  const described = firstLine(compiler, ['--version'], /.*/) ?? compiler
  const { status } = spawnSync(compiler, ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'], {
    input:
      '#include <concepts>\ntemplate <std::integral T> T f(T x) { return x; }\nint main() { return f(0); }\n',
  })
  return {
    ok: status === 0,
    found: status === 0 ? described : `${described} does not compile C++20`,
  }
}

function makeTool(): Found {
  const ninja = firstLine('ninja', ['--version'], /.*/)
  if (ninja) return { ok: true, found: `ninja ${ninja}` }
  const make = firstLine('make', ['--version'], /.*/)
  return make ? { ok: true, found: make } : { ok: false, found: 'neither ninja nor make was found' }
}

function howToInstall(needed: string[]): string {
  const names = `Missing: ${needed.map((n) => (n === 'compiler' ? 'a C++20 compiler' : n)).join(', ')}.`
  if (process.platform === 'darwin')
    return `${names} Install with:\n  xcode-select --install${needed.includes('cmake') ? ' && brew install cmake' : ''}`
  if (process.platform === 'win32') return `${names} Install with:\n  winget install Kitware.CMake`
  const [, install, packages] = managers.find(([family]) => family.test(release())) ?? [
    /./,
    'your package manager:',
    packageNames.debian,
  ]
  return `${names} Install with:\n  ${install} ${needed.map((n) => packages[n as keyof typeof packages]).join(' ')}`
}

const packageNames = {
  debian: { cmake: 'cmake', compiler: 'g++', make: 'make' },
  redhat: { cmake: 'cmake', compiler: 'gcc-c++', make: 'make' },
  arch: { cmake: 'cmake', compiler: 'gcc', make: 'make' },
}

/** By the names in /etc/os-release. */
const managers: [
  family: RegExp,
  command: string,
  names: (typeof packageNames)[keyof typeof packageNames],
][] = [
  [/debian|ubuntu/, 'apt-get install', packageNames.debian],
  [/alpine/, 'apk add', packageNames.debian],
  [/fedora|rhel|centos/, 'dnf install', packageNames.redhat],
  [/suse/, 'zypper install', packageNames.redhat],
  [/arch/, 'pacman -S', packageNames.arch],
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

function firstLine(command: string, args: string[], part: RegExp): string | undefined {
  return part.exec(run(command, args) ?? '')?.[0]
}

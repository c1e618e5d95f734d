import { spawnSync } from 'node:child_process'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { cuda, repository } from './support.js'

const folder = join(repository, 'prebuilds')
const binaries = readdirSync(folder).map(
  (name) => [name, join(folder, name, 'memory-layers.glibc.node')] as const,
)

function readelf(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync('readelf', ['-W', ...args], {
    encoding: 'utf8',
    maxBuffer: 2 ** 26,
  })
  expect(status, stderr).toBe(0)
  return stdout
}

interface Symbol {
  name: string
  version: string | undefined
  defined: boolean
  weak: boolean
}

function dynamicSymbols(file: string): Symbol[] {
  const pattern = /^ +\d+: \w+ +\d+ +\w+ +(GLOBAL|WEAK|UNIQUE) +\w+ +(?:\[.*?\] +)?(\w+) (\S+)/gm
  return [...readelf('--dyn-syms', file).matchAll(pattern)].map(([, binding, section, text]) => {
    const [name, version] = text!.split(/@+/)
    return { name: name!, version, defined: section !== 'UND', weak: binding === 'WEAK' }
  })
}

test('there is a binary for linux-x64 and one for linux-arm64', () => {
  expect(binaries.map(([name]) => name)).toEqual(['linux-arm64', 'linux-x64'])
})

describe.each(binaries)('%s', (name, file) => {
  test('exports exactly the two symbols of a Node-API module', () => {
    const exported = dynamicSymbols(file).filter((s) => s.defined)
    expect(exported.map((s) => s.name).sort()).toEqual([
      'napi_register_module_v1',
      'node_api_module_get_api_version_v1',
    ])
  })

  test('runs on glibc 2.28', () => {
    const imported = dynamicSymbols(file).filter((s) => !s.defined)
    expect(imported.length).toBeGreaterThan(50)
    const later = imported.filter((s) => {
      const [, minor] = /^GLIBC_2\.(\d+)/.exec(s.version ?? '') ?? []
      return minor !== undefined && Number(minor) > 28
    })
    expect(later).toEqual([])
    // The C++ library is linked statically; Node's functions have no version, and no other symbol
    // is unresolved.
    expect(imported.filter((s) => /CXX/.test(s.version ?? ''))).toEqual([])
    const unresolved = imported.filter(
      (s) => s.version === undefined && !s.weak && !/^(napi|node_api)_/.test(s.name),
    )
    expect(unresolved).toEqual([])
  })

  test('needs no library but those of glibc and libgcc_s, and has no search path', () => {
    const dynamic = readelf('-d', file)
    const needed = [...dynamic.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map((m) => m[1]!)
    const allowed = [
      'libc.so.6',
      'libm.so.6',
      'libpthread.so.0',
      'libdl.so.2',
      'librt.so.1',
      'libgcc_s.so.1',
      name === 'linux-x64' ? 'ld-linux-x86-64.so.2' : 'ld-linux-aarch64.so.1',
    ]
    expect(needed.filter((library) => !allowed.includes(library))).toEqual([])
    expect(needed).toContain('libc.so.6')
    expect(dynamic).not.toMatch(/RPATH|RUNPATH/)
    expect(dynamic).toMatch(/NODELETE/)
  })

  test('is stripped, and has no path of the build machine', () => {
    const sections = readelf('-S', file)
    expect(sections).not.toMatch(/\.symtab|\.debug_info/)
    expect(readFileSync(file).includes(repository)).toBe(false)
  })

  // sm_86 and sm_89 run the code of sm_80; for sm_100 and later the driver compiles the PTX
  test('has CUDA code for every architecture it was built for, and PTX for later ones', () => {
    const release = ['75-real', '80', '90-real']
    const built = name !== 'linux-x64' || !cuda ? [] : cuda === 'all' ? release : cuda.split(';')
    const wanted = built.flatMap((a) =>
      a.endsWith('-real') ? [`sm_${a.slice(0, -5)}`] : [`sm_${a}`, `compute_${a}`],
    )
    expect(readelf('-S', file).includes('.nv_fatbin')).toBe(built.length > 0)
    expect([...cudaArchitectures(readFileSync(file))].sort()).toEqual(wanted.sort())
  })
})

/**
 * Of the fat binaries in a file: a header of 16 bytes with their total size, then entries of kind,
 * header size, size and architecture.
 */
function cudaArchitectures(file: Buffer): Set<string> {
  const magic = Buffer.from('50ed55ba', 'hex')
  const found = new Set<string>()
  for (let at = file.indexOf(magic); at >= 0; at = file.indexOf(magic, at + 4)) {
    if (file.readUInt16LE(at + 4) !== 1 || file.readUInt16LE(at + 6) !== 16) continue
    const end = at + 16 + Number(file.readBigUInt64LE(at + 8))
    for (
      let e = at + 16;
      e < end;
      e += file.readUInt32LE(e + 4) + Number(file.readBigUInt64LE(e + 8))
    ) {
      found.add(`${file.readUInt16LE(e) === 1 ? 'compute' : 'sm'}_${file.readUInt32LE(e + 28)}`)
    }
  }
  return found
}

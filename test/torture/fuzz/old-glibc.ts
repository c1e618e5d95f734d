// The prebuilt fuzzer of @jazzer.js/core asks for glibc 2.38 and the libstdc++ of GCC 13, for three
// functions. On an older system (Debian 12, Ubuntu 22.04) a copy of it is made whose demands are
// weak, and a small library answers the three; where the system is new enough nothing is done.

import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'

const newer = ['GLIBC_2.38', 'GLIBCXX_3.4.32']

// The first two are strtol and strtoul under the names of C23, the third only marks the version.
const answers = `
#include <stdlib.h>
long __isoc23_strtol(const char* s, char** end, int base) { return strtol(s, end, base); }
unsigned long __isoc23_strtoul(const char* s, char** end, int base) {
  return strtoul(s, end, base);
}
void _ZSt21ios_base_library_initv(void) {}
`

/**
 * What node needs to load the fuzzer: the library that it will be, a module to require first, and
 * another library to preload.
 */
export interface Loading {
  fuzzer: string
  require?: string
  preload?: string
}

/** Files are written to `folder`. */
export function loadingOfFuzzer(folder: string): Loading {
  const require = createRequire(import.meta.url)
  const manifest = require.resolve('@jazzer.js/fuzzer/package.json', {
    paths: [dirname(require.resolve('@jazzer.js/core'))],
  })
  const name = `fuzzer-${process.platform}-${process.arch}.node`
  const original = join(dirname(manifest), 'prebuilds', name)
  if (loads(original)) return { fuzzer: original }
  mkdirSync(folder, { recursive: true })
  const copy = join(folder, name)
  writeFileSync(copy, withWeakDemands(readFileSync(original)))
  writeFileSync(join(folder, 'answers.c'), answers)
  const preload = join(folder, 'answers.so')
  execFileSync('cc', ['-shared', '-fPIC', '-O1', join(folder, 'answers.c'), '-o', preload])
  const redirect = join(folder, 'redirect.cjs')
  writeFileSync(
    redirect,
    `const { _extensions } = require('node:module')
const load = _extensions['.node']
_extensions['.node'] = (module, file) =>
  load(module, file.endsWith(${JSON.stringify(name)}) ? ${JSON.stringify(copy)} : file)
`,
  )
  return { fuzzer: copy, require: redirect, preload }
}

function loads(file: string): boolean {
  try {
    execFileSync(process.execPath, ['-e', `require(${JSON.stringify(file)})`], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

const versionNeeds = 0x6ffffffe // SHT_GNU_verneed
const weak = 2 // VER_FLG_WEAK: the dynamic linker goes on without the version

/** A 64-bit ELF file in which the newer versions are asked for weakly. */
function withWeakDemands(elf: Buffer): Buffer {
  const sections = Number(elf.readBigUInt64LE(0x28))
  const [size, count] = [elf.readUInt16LE(0x3a), elf.readUInt16LE(0x3c)]
  const section = (i: number) => {
    const at = sections + i * size
    const offset = Number(elf.readBigUInt64LE(at + 24))
    return { type: elf.readUInt32LE(at + 4), offset, link: elf.readUInt32LE(at + 40) }
  }
  for (let i = 0; i < count; i++) {
    const { type, offset, link } = section(i)
    if (type !== versionNeeds) continue
    const strings = section(link).offset
    for (const at of auxiliaries(elf, offset)) {
      const begin = strings + elf.readUInt32LE(at + 8)
      const version = elf.toString('latin1', begin, elf.indexOf(0, begin))
      if (newer.includes(version)) elf.writeUInt16LE(elf.readUInt16LE(at + 4) | weak, at + 4)
    }
  }
  return elf
}

/** Offsets of the entries, each the demand of one version. */
function* auxiliaries(elf: Buffer, first: number): Generator<number> {
  for (let need = first, more = true; more; need += elf.readUInt32LE(need + 12)) {
    let at = need + elf.readUInt32LE(need + 8)
    for (let n = elf.readUInt16LE(need + 2); n > 0; n--, at += elf.readUInt32LE(at + 12)) yield at
    more = elf.readUInt32LE(need + 12) !== 0
  }
}

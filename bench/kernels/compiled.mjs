// Registers, spills and shared memory of every kernel, by ptxas for each architecture, the warps
// that then fit a multiprocessor, and what the PTX shows (ptx.mjs).

import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { availableParallelism, tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { readPtx } from './ptx.mjs'

const root = fileURLToPath(new URL('../..', import.meta.url))
// Limits of a multiprocessor (CUDA programming guide, compute capabilities); shared: bytes.
const limits = {
  75: { registers: 65536, warps: 32, shared: 64 * 1024, blocks: 16 },
  80: { registers: 65536, warps: 64, shared: 164 * 1024, blocks: 32 },
  86: { registers: 65536, warps: 48, shared: 100 * 1024, blocks: 16 },
  89: { registers: 65536, warps: 48, shared: 100 * 1024, blocks: 24 },
  90: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
  100: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
  120: { registers: 65536, warps: 48, shared: 100 * 1024, blocks: 24 },
}
export const architectures = Object.keys(limits).map(Number)

/** The .cu files, and a digest of each with all that it may include. */
function sources() {
  const native = `${root}native/`
  const all = readdirSync(native, { recursive: true }).map(String)
  const headers = createHash('sha256')
  for (const name of all.filter((n) => /\.(h|cuh)$/.test(n)).sort())
    headers.update(readFileSync(native + name))
  for (const own of ['compiled.mjs', 'ptx.mjs'])
    headers.update(readFileSync(new URL(own, import.meta.url)))
  const common = headers.digest('hex')
  return all
    .filter((n) => n.endsWith('.cu'))
    .sort()
    .map((name) => ({
      name,
      digest: createHash('sha256')
        .update(common)
        .update(readFileSync(native + name))
        .digest('hex'),
    }))
}

/**
 * As a release compiles (cmake/cuda.cmake): PTX for sm_75, and for all later ones together, those
 * too whose code the driver makes of it.
 */
const targets = [
  '-gencode=arch=compute_75,code=sm_75',
  `-gencode=arch=compute_80,code=[${architectures
    .filter((a) => a >= 80)
    .map((a) => `sm_${a}`)
    .join(',')}]`,
]

const exactly = readFileSync(`${root}cmake/cuda.cmake`, 'utf8')
const unfused = new Set(
  /set_source_files_properties\(([^)]*?)\s+PROPERTIES COMPILE_OPTIONS -fmad=false/
    .exec(exactly)[1]
    .split(/\s+/),
)

/** What ptxas says of one file; cached in build/kernels by the digest of the sources. */
async function compiled({ name, digest }) {
  const file = `${name.replaceAll('/', '-')}-${digest.slice(0, 16)}.json`
  const cached = `${root}build/kernels/${file}`
  if (existsSync(cached)) return JSON.parse(readFileSync(cached, 'utf8'))
  const args = ['-std=c++20', '-O3', '--expt-relaxed-constexpr', '-Xptxas', '-v', '-Inative']
  if (unfused.has(`native/${name}`)) args.push('-fmad=false')
  const kept = mkdtempSync(join(tmpdir(), 'memory-layers-ptx-'))
  args.push(...targets, '--keep', '--keep-dir', kept)
  args.push('-fatbin', `native/${name}`, '-o', '/dev/null')
  let stderr
  let ptx = new Map()
  try {
    const options = { cwd: root, maxBuffer: 2 ** 28 }
    stderr = (await promisify(execFile)('nvcc', args, options)).stderr
    const newest = readdirSync(kept).find((file) => file.endsWith('80.ptx'))
    if (newest) ptx = readPtx(readFileSync(join(kept, newest), 'utf8'))
  } finally {
    rmSync(kept, { recursive: true })
  }
  const entry = /Compiling entry function '(\w+)' for 'sm_(\d+)'/g
  const entries = [...stderr.matchAll(entry)]
  const mangled = entries.map((m) => m[1])
  const names =
    mangled.length === 0
      ? []
      : execFileSync('c++filt', { input: mangled.join('\n'), encoding: 'utf8' })
          .trim()
          .split('\n')
  const kernels = entries.map((m, i) => {
    const text = stderr.slice(m.index, entries[i + 1]?.index)
    const readable = names[i].replaceAll('ml::cuda::', '').replaceAll('(anonymous namespace)::', '')
    return {
      architecture: Number(m[2]),
      instance: readable,
      kernel: /(\w+)\s*(<|\()/.exec(readable.replace(/^void /, ''))?.[1] ?? readable,
      registers: Number(/Used (\d+) registers/.exec(text)?.[1] ?? 0),
      spilled: Number(/(\d+) bytes spill stores/.exec(text)?.[1] ?? 0),
      stack: Number(/(\d+) bytes stack frame/.exec(text)?.[1] ?? 0),
      shared: Number(/(\d+) bytes smem/.exec(text)?.[1] ?? 0),
      ...(m[2] === '80' && { ptx: ptx.get(m[1]) }),
    }
  })
  const own = kernels.filter((k) => !k.instance.includes('cub::'))
  mkdirSync(`${root}build/kernels`, { recursive: true })
  writeFileSync(cached, JSON.stringify(own))
  return own
}

/**
 * Warps that fit a multiprocessor. Registers are allocated to a warp in units of 256; the system
 * reserves 1 KB of shared memory in each block.
 */
export function residentWarps({ registers, shared }, threads, architecture) {
  const l = limits[architecture]
  const warps = Math.ceil(threads / 32)
  const byRegisters = Math.floor(l.registers / (Math.ceil((registers * 32) / 256) * 256 * warps))
  const byShared = Math.floor(l.shared / (shared + 1024))
  return Math.min(byRegisters, byShared, l.blocks, Math.floor(l.warps / warps)) * warps
}

/** Every instance of every kernel, for each architecture. */
export async function compileAll() {
  const jobs = sources()
  const results = []
  const work = async () => {
    for (let source = jobs.shift(); source; source = jobs.shift())
      for (const k of await compiled(source)) results.push({ file: source.name, ...k })
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  return results
}

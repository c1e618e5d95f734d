// Registers, spills and shared memory of every kernel, by ptxas for each architecture, and the
// warps that then fit a multiprocessor.

import { execFile, execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { availableParallelism } from 'node:os'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../..', import.meta.url))
export const architectures = [80, 90, 100]

// Limits of a multiprocessor (CUDA programming guide, compute capabilities); shared: bytes.
const limits = {
  80: { registers: 65536, warps: 64, shared: 164 * 1024, blocks: 32 },
  90: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
  100: { registers: 65536, warps: 64, shared: 228 * 1024, blocks: 32 },
}

/** The .cu files, and a digest of each with all that it may include. */
function sources() {
  const native = `${root}native/`
  const all = readdirSync(native, { recursive: true }).map(String)
  const headers = createHash('sha256')
  for (const name of all.filter((n) => /\.(h|cuh)$/.test(n)).sort())
    headers.update(readFileSync(native + name))
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
 * What ptxas says of one file for one architecture; cached in build/kernels by the digest of the
 * sources.
 */
async function compiled({ name, digest }, architecture) {
  const file = `${name.replaceAll('/', '-')}-${architecture}-${digest.slice(0, 16)}.json`
  const cached = `${root}build/kernels/${file}`
  if (existsSync(cached)) return JSON.parse(readFileSync(cached, 'utf8'))
  const args = [
    '-std=c++20',
    '-O3',
    `-arch=sm_${architecture}`,
    '--expt-relaxed-constexpr',
    '-Xptxas',
    '-v',
    '-Inative',
    '-cubin',
    `native/${name}`,
    '-o',
    '/dev/null',
  ]
  if (/^ops\/(multinomial|random_fill|rope)\.cu$/.test(name)) args.unshift('-fmad=false')
  const { stderr } = await promisify(execFile)('nvcc', args, { cwd: root, maxBuffer: 2 ** 26 })
  const names = [...stderr.matchAll(/Compiling entry function '(\w+)'/g)].map((m) => m[1])
  const readable =
    names.length === 0
      ? []
      : execFileSync('c++filt', names, { encoding: 'utf8' }).trim().split('\n')
  const sections = stderr.split(/Compiling entry function '\w+'/).slice(1)
  const kernels = sections.map((text, i) => ({
    instance: readable[i].replaceAll('ml::cuda::', '').replaceAll('(anonymous namespace)::', ''),
    kernel:
      /(\w+)\s*(<|\()/.exec(
        readable[i].replace(/^(void )?(ml::cuda::)?(\(anonymous namespace\)::)?/, ''),
      )?.[1] ?? readable[i],
    registers: Number(/Used (\d+) registers/.exec(text)?.[1] ?? 0),
    spilled: Number(/(\d+) bytes spill stores/.exec(text)?.[1] ?? 0),
    shared: Number(/(\d+) bytes smem/.exec(text)?.[1] ?? 0),
  }))
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
  const jobs = sources().flatMap((source) =>
    architectures.map((architecture) => ({ source, architecture })),
  )
  const results = []
  const work = async () => {
    for (let job = jobs.shift(); job; job = jobs.shift()) {
      const { source, architecture } = job
      for (const k of await compiled(source, architecture))
        results.push({ file: source.name, architecture, ...k })
    }
  }
  await Promise.all(Array.from({ length: availableParallelism() }, work))
  return results
}

// Import directions (docs/architecture.md), read from include and import lines:
// binding → layer → operations.h → optim → ops → core, and distributed → device → core beside them.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join, relative } from 'node:path'

const root = join(dirname(new URL(import.meta.url).pathname), '..')

// What the headers of a folder may include, and its .cpp where no rule below is for them.
const allowed = {
  compat: [],
  core: ['core'],
  device: ['core', 'device'],
  distributed: ['core', 'device', 'distributed'],
  mpi: ['distributed/transport.h'],
  ops: ['core', 'ops'],
  optim: ['core', 'ops', 'optim'],
  cpu: ['core', 'device', 'cpu'],
  cuda: ['core', 'device', 'cuda'],
  'operations.h': ['ops', 'optim'],
  layer: ['device', 'distributed', 'operations.h', 'layer'],
  binding: [
    'core',
    'device',
    'distributed',
    'layer',
    'binding',
    'cpu/backend.h',
    'cpu/container.h',
    'cpu/file_lock.h',
    'cpu/isa.h',
    'cpu/mapped_file.h',
    'cuda/backend.h',
  ],
}

function allowedIn(name) {
  const folder = name.split('/')[0]
  const headers = allowed[folder]
  // alone of its folder it knows the operations
  if (/^(cpu|cuda)\/backend\.cpp$/.test(name)) return [...headers, 'operations.h']
  if (!/^(ops|optim)\//.test(name)) return headers
  if (/(\.cpp|_cpu\.h)$/.test(name)) return [...headers, 'cpu']
  if (/\.cuh?$/.test(name)) return [...headers, 'cuda']
  return headers
}

function files(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath ?? e.path, e.name))
}

const primitives =
  /__syncthreads|__shfl|__ballot|__any_sync|__all_sync|__syncwarp|__threadfence|\batomic[A-Z]/

// What keeps kernels compilable by nvcc and the emulator alike.
function deviceFault(name, text) {
  if (!/\.(cuh?|cpp|h)$/.test(name) || (!/^cuda\//.test(name) && !/\.cuh?$/.test(name))) return
  const code = text.replace(/\/\/.*/, '')
  if (/<<</.test(code)) return 'kernels are started with launch() only'
  if (primitives.test(code) && !/^cuda\/(warp|block|ptx_\w+)\.cuh$/.test(name))
    return 'primitives of warps and blocks come from cuda/warp.cuh and cuda/block.cuh'
  if (/\basm\b/.test(code) && !/^cuda\/ptx_\w+\.cuh$/.test(name))
    return 'PTX belongs in cuda/ptx_*.cuh'
  if (/__CUDA_ARCH__/.test(code) && !/^cuda\/ptx_\w+\.cuh$/.test(name))
    return '__CUDA_ARCH__ belongs in cuda/ptx_*.cuh'
  if (/#include <(cub|thrust)\//.test(code) && name !== 'cuda/sort.cu')
    return 'CUB is used in cuda/sort.cu only'
}

const faults = []

for (const file of files(join(root, 'native'))) {
  const name = relative(join(root, 'native'), file)
  const folder = name.split('/')[0]
  if (!['.h', '.cpp', '.cu', '.cuh'].includes(extname(file))) continue
  if (!allowed[folder]) faults.push(`native/${name}: no rule for folder ${folder}`)
  const rule = allowedIn(name)
  for (const [line, text] of readFileSync(file, 'utf8').split('\n').entries()) {
    const fault = deviceFault(name, text)
    if (fault) faults.push(`native/${name}:${line + 1}: ${fault}`)
    const target = /^\s*#include\s+"([^"]+)"/.exec(text)?.[1]
    if (target && !rule?.some((r) => target === r || target.startsWith(`${r}/`)))
      faults.push(`native/${name}:${line + 1}: may not include ${target}`)
    if (/#include\s+<napi\.h>/.test(text) && folder !== 'binding')
      faults.push(`native/${name}:${line + 1}: only binding/ includes <napi.h>`)
  }
}

for (const file of files(join(root, 'lib'))) {
  const name = relative(root, file)
  const text = readFileSync(file, 'utf8')
  if (name !== 'lib/binary.ts' && /node-gyp-build|\.node['"]/.test(text))
    faults.push(`${name}: only lib/binary.ts finds the addon`)
  if (!/^lib\/(nn|tfjs|cli)\//.test(name) && /from '\.\/(nn|tfjs|cli)\//.test(text))
    faults.push(`${name}: lib/ may not import lib/nn/, lib/tfjs/ or lib/cli/`)
  if (/^(?! \*).*console\./m.test(text)) faults.push(`${name}: the library prints nothing`)
}

faults.push(...importCycles())

for (const fault of faults) console.error(fault)
console.log(faults.length === 0 ? 'layers: in order' : `layers: ${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)

/** Cycles of value imports among the files of lib/; `import type` and `export type` don't count. */
function importCycles() {
  const lib = join(root, 'lib')
  const statement = /^(?:import|export)\s+(?!type\s)([^'";]*?from\s+)?'(\.[^']+)\.js'/gm
  const typesOnly = /^\{(\s*type\s[^,}]+,?)+\s*\}/
  const imports = new Map()
  for (const file of files(lib).filter((f) => f.endsWith('.ts'))) {
    const targets = [...readFileSync(file, 'utf8').matchAll(statement)]
      .filter(([, names = '']) => !typesOnly.test(names))
      .map(([, , target]) => join(dirname(file), `${target}.ts`))
    imports.set(file, targets)
  }
  const done = new Set()
  const cycles = []
  const visit = (file, path) => {
    const start = path.indexOf(file)
    if (start >= 0) {
      const names = [...path.slice(start), file].map((f) => relative(root, f))
      cycles.push(`import cycle: ${names.join(' -> ')}`)
    } else if (!done.has(file)) {
      for (const target of imports.get(file) ?? []) visit(target, [...path, file])
      done.add(file)
    }
  }
  for (const file of imports.keys()) visit(file, [])
  return cycles
}

// Import directions (docs/architecture.md): binding → layer → ops, optim → device → core. Reads
// include and import lines.

import { readdirSync, readFileSync } from 'node:fs'
import { dirname, extname, join, relative } from 'node:path'

const root = join(dirname(new URL(import.meta.url).pathname), '..')

// What files of a folder may include, by folder; backend.cpp alone may also see ops and optim.
const allowed = {
  compat: [],
  core: ['core'],
  device: ['core', 'device'],
  ops: ['core', 'ops'],
  optim: ['core', 'ops', 'optim'],
  cpu: ['core', 'device', 'cpu'],
  cuda: ['core', 'device', 'cuda'],
  'operations.h': ['ops', 'optim'],
  layer: ['core', 'device', 'ops', 'optim', 'operations.h', 'layer'],
  binding: [
    'core',
    'device',
    'ops',
    'optim',
    'layer',
    'binding',
    'cpu/backend.h',
    'cpu/isa.h',
    'cpu/mapped_file.h',
    'cuda/backend.h',
  ],
}
// a .cpp (or _cpu.h) in ops or optim: its own header and cpu/
const schedules = ['core', 'ops', 'optim', 'cpu']
const kernels = ['core', 'ops', 'optim', 'cuda'] // a .cu or .cuh there: its own header and cuda/
const backend = {
  cpu: ['core', 'device', 'cpu', 'operations.h'],
  cuda: ['core', 'device', 'cuda', 'operations.h'],
}

function files(folder) {
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((e) => e.isFile())
    .map((e) => join(e.parentPath ?? e.path, e.name))
}

// What keeps kernels compilable by nvcc and the emulator alike.
function deviceFault(name, text) {
  if (!/\.(cuh?|cpp|h)$/.test(name) || (!/^cuda\//.test(name) && !/\.cuh?$/.test(name))) return
  const code = text.replace(/\/\/.*/, '')
  if (/<<</.test(code)) return 'kernels are started with launch() only'
  if (
    /__syncthreads|__shfl|__ballot|__any_sync|__all_sync|__syncwarp|__threadfence|\batomic(Add|Min|Max|Or|And|CAS|Exch)\b/.test(
      code,
    ) &&
    !/^cuda\/(warp|block|ptx_\w+)\.cuh$/.test(name)
  )
    return 'primitives of warps and blocks come from cuda/warp.cuh and cuda/block.cuh'
  if (/\basm\b/.test(code) && !/^cuda\/ptx_\w+\.cuh$/.test(name))
    return 'PTX stands in cuda/ptx_*.cuh'
  if (/__CUDA_ARCH__/.test(code) && !/^cuda\/ptx_\w+\.cuh$/.test(name))
    return '__CUDA_ARCH__ stands in cuda/ptx_*.cuh'
  if (/#include <(cub|thrust)\//.test(code) && name !== 'cuda/sort.cu')
    return 'CUB is used in cuda/sort.cu only'
}

const faults = []

for (const file of files(join(root, 'native'))) {
  const name = relative(join(root, 'native'), file)
  const folder = name.split('/')[0]
  if (!['.h', '.cpp', '.cu', '.cuh'].includes(extname(file))) continue
  if (!allowed[folder]) faults.push(`native/${name}: no rule for folder ${folder}`)
  const rule = name.endsWith('/backend.cpp')
    ? backend[folder]
    : ['ops', 'optim'].includes(folder) && /(\.cpp|_cpu\.h)$/.test(file)
      ? schedules
      : ['ops', 'optim'].includes(folder) && /\.cuh?$/.test(file)
        ? kernels
        : allowed[folder]
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
  if (/console\./.test(text)) faults.push(`${name}: the library prints nothing`)
}

for (const fault of faults) console.error(fault)
console.log(faults.length === 0 ? 'layers: in order' : `layers: ${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)

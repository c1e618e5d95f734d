// Builds the binaries that the package ships,
// prebuilds/<platform>-<arch>/memory-layers[.<libc>].node.
//
//   node scripts/prebuild.mjs [linux-x64] [linux-arm64] … [--cuda on|off]
//                             [--cuda-architectures LIST]
//
// Without a name: this machine's. Another architecture of Linux is cross-compiled with Debian's
// compilers; other systems build on their own. linux-x64 has the CUDA backend in the same file, for
// every architecture of the release, unless --cuda off says otherwise. Each is built in a folder of
// its own, build/prebuild/<name>, so that a developer's build/Release stays as it is.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))
const require = createRequire(import.meta.url)
const prebuildify = require('prebuildify')

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { cuda: { type: 'string' }, 'cuda-architectures': { type: 'string' } },
})
const here = `${process.platform}-${process.arch}`
const withCuda = ['linux-x64']
const cross = {
  'linux-arm64': { toolchain: 'cmake/aarch64-linux-gnu.cmake', strip: 'aarch64-linux-gnu-strip' },
}

function definitions(name) {
  const cuda = values.cuda ?? (withCuda.includes(name) ? 'on' : 'off')
  const list = [`ML_CUDA=${cuda.toUpperCase()}`, 'ML_SIMT=OFF', 'CMAKE_BUILD_TYPE=Release']
  if (cuda === 'on' && !values['cuda-architectures']) list.push('ML_CUDA_ALL=ON')
  if (values['cuda-architectures'])
    list.push(`CMAKE_CUDA_ARCHITECTURES=${values['cuda-architectures']}`)
  if (name !== here) list.push(`CMAKE_TOOLCHAIN_FILE=${root}${cross[name].toolchain}`)
  return list
}

async function build(name) {
  const [platform, arch] = name.split('-')
  if (name !== here && !cross[name]) {
    const possible = [here, ...Object.keys(cross)].join(', ')
    throw new Error(`prebuild: ${name} can't be built on ${here}; it takes ${possible}.`)
  }
  const stage = `${root}build/prebuild/${name}`
  mkdirSync(stage, { recursive: true })
  writeFileSync(`${stage}/package.json`, JSON.stringify({ name: require('../package.json').name }))
  // The cache would keep definitions of an earlier run.
  rmSync(`${stage}/build/CMakeCache.txt`, { force: true })
  rmSync(`${root}prebuilds/${name}`, { recursive: true, force: true })
  process.env.MEMORY_LAYERS_CMAKE_ARGS = definitions(name).join(' ')
  const options = {
    cwd: stage,
    out: root,
    platform,
    arch,
    napi: true,
    tagLibc: platform === 'linux',
    strip: platform !== 'win32',
    ...(name !== here && { stripBin: cross[name].strip }),
    nodeGyp: `"${process.execPath}" "${root}scripts/node-gyp-shim.mjs"`,
    shell: true,
  }
  await new Promise((resolve, reject) =>
    prebuildify(options, (error) => (error ? reject(error) : resolve())),
  )
}

for (const name of positionals.length > 0 ? positionals : [here]) {
  const start = performance.now()
  await build(name)
  console.log(`${name}: built in ${((performance.now() - start) / 1000).toFixed(1)} s`)
}

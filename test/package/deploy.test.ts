// Deployments: what a file tracer copies runs, and a bundle works or says what helps.

import { cpSync, mkdirSync, readdirSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { basename, dirname, join } from 'node:path'
import { nodeFileTrace } from '@vercel/nft'
import { buildSync } from 'esbuild'
import { nodeFileTrace as nodeFileTrace27 } from 'vercel-nft-0.27'
import { beforeAll, describe, expect, test } from 'vitest'
import { copyOf, emptyFolder, installed, packageFolder, run } from './support.js'

const prebuilt = 'prebuilds/linux-x64/memory-layers.glibc.node'

let folder: string
beforeAll(() => {
  folder = installed()
  // Prints 'cpu 2', or the error of loading the package.
  writeFileSync(
    join(folder, 'use.mjs'),
    `const use = async ({ openDevice }) => {
       const device = openDevice('cpu')
       console.log(device.kind, (await device.tensor([1, 2]).data()).length)
     }
     import('memory-layers').then(use).catch((e) => console.log(e.code, e.message))`,
  )
  writeFileSync(
    join(folder, 'use.cjs'),
    `try { console.log(require('memory-layers').openDevice('cpu').kind, 2) }
     catch (e) { console.log(e.code, e.message) }`,
  )
})

type Trace = (files: string[], options: { base: string }) => Promise<{ fileList: Set<string> }>

/** An empty folder with what @vercel/nft finds: what Next.js and Vercel deploy of a program. */
async function deployed(trace: Trace, project: string, program: string): Promise<string> {
  const { fileList } = await trace([join(project, program)], { base: project })
  const target = emptyFolder()
  for (const file of fileList) {
    mkdirSync(dirname(join(target, file)), { recursive: true })
    cpSync(join(project, file), join(target, file))
  }
  return target
}

describe.each<[string, Trace]>([
  ['1.11', nodeFileTrace],
  ['0.27, as Next.js 15 does,', nodeFileTrace27],
])('the files that @vercel/nft %s traces', (_, trace) => {
  test.each(['esm.mjs', 'commonjs.cjs'])('are enough to run %s', async (program) => {
    const target = await deployed(trace, folder, program)
    const { status, stdout, stderr } = run(target, 'node', [program])
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' })
    expect(Object.keys(JSON.parse(stdout)).length).toBeGreaterThan(2)
    expect(readdirSync(packageFolder(target)).sort()).toEqual(['dist', 'package.json', 'prebuilds'])
  })

  test('contain a binary that was compiled on this machine', async () => {
    const project = copyOf(folder)
    const release = join(packageFolder(project), 'build', 'Release')
    mkdirSync(release, { recursive: true })
    renameSync(join(packageFolder(project), prebuilt), join(release, 'memory_layers.node'))
    rmSync(join(packageFolder(project), 'prebuilds'), { recursive: true })
    const target = await deployed(trace, project, 'use.mjs')
    expect(run(target, 'node', ['use.mjs']).output).toBe('cpu 2\n')
  })
})

test('a copy without node-gyp-build: the error names it', () => {
  const copy = copyOf(folder)
  rmSync(join(copy, 'node_modules/node-gyp-build'), { recursive: true })
  const { stdout } = run(copy, 'node', ['use.mjs'])
  expect(stdout).toMatch(/^ERR_NO_BINARY memory-layers: its dependency node-gyp-build,/)
})

/** A program of the project as one file in an empty folder. */
function bundled(program: string, format: 'esm' | 'cjs', external: string[] = []): string {
  const outfile = join(emptyFolder(), `bundle.${format === 'esm' ? 'mjs' : 'cjs'}`)
  buildSync({
    absWorkingDir: folder,
    entryPoints: [program],
    bundle: true,
    platform: 'node',
    format,
    external,
    outfile,
    logLevel: 'error',
  })
  return outfile
}

describe.each(['esm', 'cjs'] as const)('a bundle of esbuild, format %s', (format) => {
  describe.each(['use.mjs', 'use.cjs'])('of %s', (program) => {
    test('moved away, is ERR_NO_BINARY with what helps', () => {
      const file = bundled(program, format)
      const { stdout } = run(dirname(file), 'node', [file])
      expect(stdout).toMatch(/^ERR_NO_BINARY memory-layers: .*a bundler has moved the code/)
      expect(stdout).toContain('--external:memory-layers')
      expect(stdout).toContain('serverExternalPackages')
    })

    test('with the binary beside it, runs', () => {
      const file = bundled(program, format)
      const binary = join(packageFolder(folder), prebuilt)
      cpSync(binary, join(dirname(file), basename(binary)))
      expect(run(dirname(file), 'node', [file]).output).toBe('cpu 2\n')
    })

    test('with a broken binary beside it, has the reason', () => {
      const file = bundled(program, format)
      writeFileSync(join(dirname(file), 'memory_layers.node'), 'not a library')
      const { stdout } = run(dirname(file), 'node', [file])
      expect(stdout).toMatch(/^ERR_NO_BINARY .*memory_layers\.node could not be loaded/)
      expect(stdout).toMatch(/too short|invalid ELF header/)
    })

    test('with MEMORY_LAYERS_PREBUILD and node-gyp-build, runs', () => {
      const file = bundled(program, format)
      const target = join(dirname(file), 'node_modules', 'node-gyp-build')
      cpSync(join(folder, 'node_modules', 'node-gyp-build'), target, { recursive: true })
      const env = { MEMORY_LAYERS_PREBUILD: packageFolder(folder) }
      expect(run(dirname(file), 'node', [file], env).output).toBe('cpu 2\n')
    })
  })

  test('runs where the package is external and installed', () => {
    const file = bundled('use.mjs', format, ['memory-layers'])
    const project = copyOf(folder)
    cpSync(file, join(project, basename(file)))
    expect(run(project, 'node', [basename(file)]).output).toBe('cpu 2\n')
  })
})

test('Node without the permission to load addons: the error has the reason', () => {
  const flags = ['--experimental-permission', '--allow-fs-read=*', '--no-warnings']
  const { stdout } = run(folder, 'node', [...flags, 'use.mjs'])
  expect(stdout).toMatch(/^ERR_NO_BINARY .*could not be loaded/)
  expect(stdout).toContain('run with --allow-addons')
})

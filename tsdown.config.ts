import { writeFile } from 'node:fs/promises'
import { defineConfig } from 'tsdown'

const common = { platform: 'node', target: 'node20', shims: true, fixedExtension: false } as const
const entry = {
  index: 'lib/index.ts',
  nn: 'lib/nn/index.ts',
  tfjs: 'lib/tfjs/index.ts',
  distributed: 'lib/distributed/index.ts',
}

// One copy of every class, whether a program says `import` or `require` or both: the ES modules
// re-export the CommonJS modules.
async function writeModules() {
  for (const name of Object.keys(entry))
    for (const extension of ['js', 'd.ts'])
      await writeFile(`dist/${name}.${extension}`, `export * from './${name}.cjs'\n`)
}

// An ES module has no `require`; rolldown would make one that a bundle in CommonJS can't run.
const modules = { format: 'esm', dts: false, define: { require: 'undefined' } } as const

export default defineConfig([
  {
    ...common,
    entry,
    format: ['cjs'],
    dts: true,
    // Declarations have [Symbol.dispose], which a consumer's own "lib" may not know.
    banner: { dts: '/// <reference lib="esnext.disposable" />' },
    sourcemap: true,
    onSuccess: writeModules,
  },
  // For bundlers alone ("module" in package.json's exports): CommonJS in a bundle of ES modules
  // has no `require` for Node's own modules.
  { ...common, ...modules, entry, fixedExtension: true, shims: false, clean: false },
  // The command line, beside the library but with none of it: it must run where the library can't
  // be loaded.
  { ...common, ...modules, entry: { cli: 'lib/cli/main.ts' }, clean: false },
])

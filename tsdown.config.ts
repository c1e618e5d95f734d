import { writeFile } from 'node:fs/promises'
import { defineConfig } from 'tsdown'

const common = { platform: 'node', target: 'node20', shims: true, fixedExtension: false } as const
const entry = { index: 'lib/index.ts', nn: 'lib/nn/index.ts', tfjs: 'lib/tfjs/index.ts' }

// One copy of every class, whether a program says `import` or `require` or both: the ES modules
// re-export the CommonJS modules.
async function writeModules() {
  for (const name of Object.keys(entry))
    for (const extension of ['js', 'd.ts'])
      await writeFile(`dist/${name}.${extension}`, `export * from './${name}.cjs'\n`)
}

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
  // The command line, beside the library but with none of it: it must run where the library can't
  // be loaded.
  { ...common, entry: { cli: 'lib/cli/main.ts' }, format: ['esm'], dts: false, clean: false },
])

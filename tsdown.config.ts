import { defineConfig } from 'tsdown'

const common = { platform: 'node', target: 'node20', shims: true, fixedExtension: false } as const

export default defineConfig([
  {
    ...common,
    entry: { index: 'lib/index.ts', nn: 'lib/nn/index.ts', tfjs: 'lib/tfjs/index.ts' },
    format: ['esm', 'cjs'],
    dts: true,
    // Declarations have [Symbol.dispose], which a consumer's own "lib" may not know.
    banner: { dts: '/// <reference lib="esnext.disposable" />' },
    sourcemap: true,
  },
  // The command line, beside the library but with none of it: it must run where the library can't be loaded.
  { ...common, entry: { cli: 'lib/cli/main.ts' }, format: ['esm'], dts: false, clean: false },
])

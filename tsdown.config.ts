import { defineConfig } from 'tsdown'

export default defineConfig({
  entry: { index: 'lib/index.ts', nn: 'lib/nn/index.ts', tfjs: 'lib/tfjs/index.ts' },
  format: ['esm', 'cjs'],
  dts: true,
  platform: 'node',
  target: 'node20',
  shims: true,
  fixedExtension: false,
  sourcemap: true,
})

import { defineConfig } from 'vitest/config'

// The packed package, installed: scripts/test-package.mjs makes it and runs these.
export default defineConfig({
  test: {
    include: ['test/package/**/*.test.ts'],
    maxWorkers: 2,
    testTimeout: 440_000,
    hookTimeout: 120_000,
  },
})

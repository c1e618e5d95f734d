import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // have configurations of their own
    exclude: ['test/package/**', 'test/distributed/**'],
    // A crash of the addon then fails one file, not the run.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
  },
})

import { defineConfig } from 'vitest/config'

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: ['test/package/**'], // has a configuration of its own
    // A crash of the addon then fails one file, not the run.
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 60_000,
  },
})

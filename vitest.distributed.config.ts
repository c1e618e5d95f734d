import { defineConfig } from 'vitest/config'

// Programs under mpirun: scripts/test-distributed.mjs builds the addon for each MPI and runs these.
export default defineConfig({
  test: {
    include: ['test/distributed/**/*.test.ts'],
    maxWorkers: 1,
    testTimeout: 90_000,
    hookTimeout: 60_000,
  },
})

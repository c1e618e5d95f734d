/**
 * Many processes that train together: ranks that `mpirun` or `srun` has started, and the
 * collectives between them. MPI carries the data, between GPUs NCCL.
 * @module memory-layers/distributed
 */

export { Arriving, PendingReduce } from '../pending.js'
export { World } from '../world.js'
export type { AllReduceOptions, CollectiveTraffic, SplitOptions } from '../world-options.js'
export { type InitOptions, initDistributed } from './init.js'

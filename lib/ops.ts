// The operations. Each takes tensors on one device, enqueues its work there and returns new tensors
// at once; `out` reuses one. Letters: T tokens, H heads, n half-keys per half, N = n*n slots, d
// half-key width, k neighbours, L bag size, V value width.

export * from './ops/attention.js'
export type { OutOptions, Outputs } from './ops/call.js'
export * from './ops/dense.js'
export * from './ops/elementwise.js'
export * from './ops/embedding-bag.js'
export * from './ops/lookup.js'
export * from './ops/peer.js'
export * from './ops/sparse-grad.js'

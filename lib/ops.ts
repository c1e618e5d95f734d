// The operations. Each takes tensors on one device, enqueues its work there and returns new tensors
// at once; `out` reuses one. Letters: T tokens, H heads, n half-keys per half, N = n*n slots,
// d half-key width, k neighbours per head, L bag size, V value width, R rows, C model width.

export * from './ops/activation.js'
export * from './ops/arithmetic.js'
export * from './ops/attention.js'
export type { OutOptions, Outputs } from './ops/call.js'
export * from './ops/cross-entropy.js'
export * from './ops/embedding-bag.js'
export * from './ops/linear.js'
export * from './ops/matmul.js'
export * from './ops/peer.js'
export * from './ops/product-key-lookup.js'
export * from './ops/product-key-scores.js'
export * from './ops/reduce.js'
export * from './ops/rms-norm.js'
export * from './ops/sigmoid-gate.js'
export * from './ops/silu-gate.js'
export * from './ops/softmax.js'
export * from './ops/sparse-grad.js'
export * from './ops/topk.js'
export * from './ops/unary.js'

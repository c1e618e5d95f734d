/**
 * The small dense stack that whole models are made of.
 * @module memory-layers/nn
 */

export { Attention, type AttentionOptions } from './attention.js'
export type { Child, Layer } from './children.js'
export { type Applicable, Residual, Sequential } from './containers.js'
export { CrossEntropy, type CrossEntropyOptions } from './cross-entropy.js'
export { Embedding, type EmbeddingOptions } from './embedding.js'
export type { ExplicitModule, Saved } from './explicit-module.js'
export { FeedForward, type FeedForwardOptions } from './feed-forward.js'
export { Linear, type LinearOptions } from './linear.js'
export { MixtureOfExperts, type MixtureOfExpertsOptions } from './mixture-of-experts.js'
export { Module, type ModuleOptions } from './module.js'
export { RmsNorm, type RmsNormOptions } from './rms-norm.js'

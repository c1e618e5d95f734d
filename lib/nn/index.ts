/**
 * The small dense stack that whole models are made of.
 * @module memory-layers/nn
 */

export type { Compute } from '../compute.js'
export { Attention, type AttentionOptions } from './attention.js'
export type {
  FeedForwardSpec,
  LookupSpec,
  MemoryPlacement,
  MemorySpec,
  MoeSpec,
} from './block-config.js'
export type { Child, Layer } from './children.js'
export { type Applicable, Residual, Sequential } from './containers.js'
export { CrossEntropy, type CrossEntropyOptions } from './cross-entropy.js'
export { Dropout, type DropoutOptions } from './dropout.js'
export { Embedding, type EmbeddingOptions } from './embedding.js'
export type { ExplicitModule, Saved } from './explicit-module.js'
export { FeedForward, type FeedForwardOptions } from './feed-forward.js'
export { Linear, type LinearOptions } from './linear.js'
export { MixtureOfExperts, type MixtureOfExpertsOptions } from './mixture-of-experts.js'
export { Module, type ModuleOptions } from './module.js'
export { RmsNorm, type RmsNormOptions } from './rms-norm.js'
export type { GenerateOptions } from './sampling.js'
export { TokenChoiceExperts, type TokenChoiceExpertsOptions } from './token-choice-experts.js'
export type { Tokens } from './tokens.js'
export { type LossOptions, Transformer } from './transformer.js'
export type { TransformerConfig, TransformerOptions } from './transformer-config.js'
export type { LoadTransformerOptions } from './transformer-files.js'
export type { Prompt } from './transformer-generate.js'

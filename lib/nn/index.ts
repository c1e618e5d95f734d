/**
 * Whole models and what they are made of: modules, a decoder, training, data, sizes.
 * @module memory-layers/nn
 */

export type { Compute } from '../compute.js'
export { Attention, type AttentionOptions } from './attention.js'
export type {
  BlockConfig,
  FeedForwardConfig,
  FeedForwardSpec,
  LookupSpec,
  MemoryConfig,
  MemoryPlacement,
  MemorySpec,
  MoeSpec,
} from './block-config.js'
export {
  type CheckpointParts,
  loadCheckpoint,
  type SaveCheckpointOptions,
  type Stateful,
  saveCheckpoint,
} from './checkpoint.js'
export type { Child, Layer } from './children.js'
export { type Applicable, type AppliedModule, Residual, Sequential } from './containers.js'
export { CrossEntropy, type CrossEntropyOptions } from './cross-entropy.js'
export { Dropout, type DropoutOptions } from './dropout.js'
export { Embedding, type EmbeddingOptions } from './embedding.js'
export type { ExplicitModule, Saved } from './explicit-module.js'
export { FeedForward, type FeedForwardOptions } from './feed-forward.js'
export { type FitResult, fit } from './fit.js'
export type {
  CheckpointOptions,
  FitOptions,
  StepInfo,
  Trainable,
  TrainingBatch,
} from './fit-options.js'
export { Linear, type LinearOptions } from './linear.js'
export { MixtureOfExperts, type MixtureOfExpertsOptions } from './mixture-of-experts.js'
export type { MultiplyAdds } from './model-sizes.js'
export { Module, type ModuleOptions } from './module.js'
export {
  type CollectiveCost,
  type Link,
  type LinkUse,
  type Plan,
  type PlanOptions,
  plan,
  planScaling,
} from './plan.js'
export type { Collective, Grid } from './plan-collectives.js'
export { type Preset, type PresetName, presets, type Recipe } from './presets.js'
export type { Resumable } from './resumable.js'
export { RmsNorm, type RmsNormOptions } from './rms-norm.js'
export type { GenerateOptions } from './sampling.js'
export {
  type ConstantOptions,
  type Schedule,
  type ScheduleOptions,
  schedules,
} from './schedules.js'
export { TextDataset, type TextDatasetOptions, type TokenBatch } from './text-dataset.js'
export { TokenChoiceExperts, type TokenChoiceExpertsOptions } from './token-choice-experts.js'
export { CharacterTokenizer, type Tokenizer } from './tokenizer.js'
export type { Tokens } from './tokens.js'
export { type LossOptions, Transformer, type WorldOptions } from './transformer.js'
export type { TransformerConfig, TransformerOptions } from './transformer-config.js'
export type { LoadTransformerOptions } from './transformer-files.js'
export type { Prompt } from './transformer-generate.js'

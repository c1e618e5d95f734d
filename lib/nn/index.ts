/**
 * The small dense stack that whole models are made of.
 * @module memory-layers/nn
 */

export { Attention, type AttentionOptions } from './attention.js'
export {
  type CheckpointParts,
  loadCheckpoint,
  type Resumable,
  type Stateful,
  saveCheckpoint,
} from './checkpoint.js'
export { CrossEntropy } from './cross-entropy.js'
export { Embedding, type EmbeddingOptions } from './embedding.js'
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
export type { Module, Saved } from './module.js'
export { type Plan, type PlanOptions, plan } from './plan.js'
export { type Preset, type PresetName, presets, type Recipe } from './presets.js'
export { RmsNorm, type RmsNormOptions } from './rms-norm.js'
export type { Schedule, ScheduleOptions } from './schedules.js'
export * as schedules from './schedules.js'
export { TextDataset, type TextDatasetOptions, type TokenBatch } from './text-dataset.js'
export { CharacterTokenizer, type Tokenizer } from './tokenizer.js'
export type {
  Compute,
  FeedForwardSpec,
  LookupSpec,
  MemoryPlacement,
  MemorySpec,
  MoeSpec,
  TransformerOptions,
} from './transformer-config.js'

/**
 * The small dense stack that whole models are made of.
 * @module memory-layers/nn
 */

export { CrossEntropy } from './cross-entropy.js'
export { FeedForward, type FeedForwardOptions } from './feed-forward.js'
export { Linear, type LinearOptions } from './linear.js'
export type { Module, Saved } from './module.js'
export { RmsNorm, type RmsNormOptions } from './rms-norm.js'

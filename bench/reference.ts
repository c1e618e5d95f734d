// The tests' float64 references, which every result is checked against before it is timed.

export { silu } from '../test/reference/activation.js'
export { adagrad } from '../test/reference/adagrad.js'
export { adamw } from '../test/reference/adamw.js'
export {
  embeddingBag,
  embeddingBagBackward,
  fixedOffsets,
} from '../test/reference/embedding-bag.js'
export { linear } from '../test/reference/linear.js'
export { OptimizedParameter, type Rule as UpdateRule } from '../test/reference/optimizer.js'
export { lookup } from '../test/reference/product-key-lookup.js'
export { halfScores } from '../test/reference/product-key-scores.js'
export { rowwiseAdagrad } from '../test/reference/rowwise-adagrad.js'
export { sgd } from '../test/reference/sgd.js'

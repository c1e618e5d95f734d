// The tests' float64 references, which every result is checked against before it is timed.

export { Reference as OptimizerReference } from '../test/optim/reference.js'
export { linear, silu } from '../test/reference/dense.js'
export {
  embeddingBag,
  embeddingBagBackward,
  fixedOffsets,
} from '../test/reference/embedding-bag.js'
export { halfScores, lookup } from '../test/reference/product-key-lookup.js'

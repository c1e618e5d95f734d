/**
 * Memory layers inside TensorFlow.js models. TensorFlow.js is handed in by the caller, so whichever
 * build of it the program uses (tfjs, tfjs-core, tfjs-node) is the one that is used here.
 * @module memory-layers/tfjs
 */

export {
  asFunction,
  asInference,
  type FunctionOptions,
  type TfDifferentiable,
  type TfFunction,
} from './function.js'
export {
  asLayer,
  registerLayers,
  type TensorFlowLayers,
  type TfLayer,
  type TfLayerOptions,
  type TfMemoryLayer,
} from './layer.js'
export type { Stepper, TensorFlow, TfTensor, TfVariable } from './types.js'

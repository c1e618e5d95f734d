/**
 * Devices, tensors, operations, memory layers, optimizers and files.
 * @module memory-layers
 */

export { noGrad } from './autograd/recording.js'
export { keep, tidy } from './autograd/tidy.js'
export { Capture } from './capture.js'
export type { Compute } from './compute.js'
export { Context } from './context.js'
export { Device, type MemoryInfo, type NormalOptions, type UniformOptions } from './device.js'
export type { DType, TensorBits, TensorData } from './dtype.js'
export type { NumericData } from './encode.js'
export { type ErrorCode, MemoryLayersError } from './errors.js'
export { TableLayer } from './layer.js'
export type { LayerInput } from './layer-input.js'
export { MemoryLayer, type MemoryLayerOptions } from './memory-layer.js'
export {
  type DeviceInfo,
  type DeviceName,
  type DeviceOptions,
  devices,
  openDevice,
} from './open-device.js'
export * as ops from './ops.js'
export { type Gate, type Lookup, type Outputs, SparseGrad } from './ops.js'
export {
  Adagrad,
  type AdagradOptions,
  AdamW,
  type AdamWOptions,
  type ClipOptions,
  clipGradNorm,
  type OptimizerParams,
  RowwiseAdagrad,
  Sgd,
  type SgdOptions,
} from './optim.js'
export { Optimizer, type StepOptions } from './optimizer.js'
export type { DenseParameter, Parameter, TableParameter } from './parameter.js'
export type { ParameterGroup } from './parameter-groups.js'
export { PeerLayer, type PeerLayerOptions } from './peer-layer.js'
export type { QueryOptions } from './query-options.js'
export { RowPatch } from './row-patch.js'
export {
  type FileProgress,
  type LoadedTensors,
  type LoadOptions,
  loadSafetensors,
  readSafetensors,
  type SaveOptions,
  saveSafetensors,
} from './safetensors.js'
export type { ShardOptions } from './sharding/columns.js'
export {
  type RankedSlots,
  type RankSlotsOptions,
  rankSlots,
  SlotCounter,
  type SlotCounterOptions,
} from './slot-counter.js'
export type { StateDict } from './state-dict.js'
export { Tensor } from './tensor.js'
export type { Float16Data, TypedArray } from './typed-array.js'
export type { SlotUsage } from './usage.js'
export { type MapOptions, ValueTable, type ValueTableOptions } from './value-table.js'

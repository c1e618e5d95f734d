// The native addon's whole surface. lib/binding.ts is the only file that loads it; a test compares
// this list with the addon's real exports. Handles are opaque: each owns a native object until it
// is collected or disposed. Arguments named `out…` are results to write into, or undefined.

declare const native: unique symbol

export interface DeviceHandle {
  readonly [native]: 'device'
  readonly name: string
  readonly kind: 'cpu' | 'cuda' | 'simt'
  readonly description: string
}
export interface TensorHandle {
  readonly [native]: 'tensor'
  readonly shape: number[]
  readonly dtype: number
}
export interface TableHandle {
  readonly [native]: 'table'
}
export interface LayerHandle {
  readonly [native]: 'layer'
  readonly parameters: ParameterHandle[]
}
export interface PeerHandle {
  readonly [native]: 'peer'
  readonly parameters: ParameterHandle[]
}
export interface ContextHandle {
  readonly [native]: 'context'
}
export interface StateHandle {
  state1?: TensorHandle
  state2?: TensorHandle
  master?: TensorHandle
}
export interface OptimizerHandle {
  readonly [native]: 'optimizer'
  readonly step: TensorHandle
  readonly dense: StateHandle[]
  readonly tables: StateHandle[]
}
export interface ParameterHandle {
  name: string
  value: TensorHandle
  grad: TensorHandle
}
export interface SparseHandle {
  rows: TensorHandle
  values: TensorHandle
  count: TensorHandle
  slots: number
}
/** A device that this package knows, usable or not. */
export interface DeviceInfo {
  /** As `openDevice` takes it. */
  name: string
  /** Which backend runs its work. */
  kind: 'cpu' | 'cuda' | 'simt'
  /** Whether it can be opened here and now. */
  available: boolean
  /** Why it is not available. */
  reason?: string
  /** Model, instruction set, threads. */
  description: string
  /** In bytes. */
  totalMemory: number
}
/** Memory of a device, in bytes. */
export interface MemoryInfo {
  /** In tensors. */
  allocated: number
  /** Reserved from the system, including what is cached for reuse. */
  reserved: number
  /** The maximum of `allocated` so far. */
  peak: number
  /** Of the machine. */
  total: number
}

type T = TensorHandle
type Optional = TensorHandle | undefined
type Bytes = ArrayBufferView

export function initialize(errorClass: new (code: string, message: string) => Error): void
export function crossings(): number
export function devices(): DeviceInfo[]
export function isaNames(): string[]
export function openDevice(name: string, threads: number): DeviceHandle
export function deviceMemory(device: DeviceHandle): MemoryInfo
export function deviceProfile(
  device: DeviceHandle,
): Record<string, { calls: number; milliseconds: number }>
export function deviceSynchronize(device: DeviceHandle): Promise<void>

export function tensorFrom(
  device: DeviceHandle,
  data: Bytes,
  shape: readonly number[],
  dtype: number,
): T
export function tensorMap(
  device: DeviceHandle,
  path: string,
  byteOffset: number,
  shape: readonly number[],
  dtype: number,
): T
export function tensorEmpty(device: DeviceHandle, shape: readonly number[], dtype: number): T
export function tensorFill(tensor: T, value: number): void
/** kind 0: uniform in [a, b); 1: normal with mean a and standard deviation b. */
export function tensorRandom(tensor: T, kind: number, a: number, b: number, seed: number): void
export function tensorRead(tensor: T): Promise<ArrayBuffer>
export function tensorReadSync(tensor: T): ArrayBuffer
export function tensorWrite(tensor: T, byteOffset: number, data: Bytes): void
export function tensorCopy(target: T, source: T): void
export function tensorTransfer(target: T, source: T): void
export function tensorView(tensor: T, offset: number, shape: readonly number[]): T
export function tensorDispose(tensor: T): void

export function productKeyScores(out: Optional, query: T, keys: T): T
export function topK(
  outValues: Optional,
  outIndices: Optional,
  x: T,
  k: number,
): { values: T; indices: T }
export function productKeyLookup(
  outScores: Optional,
  outIndices: Optional,
  outWeights: Optional,
  query: T,
  keys: T,
  mask: Optional,
  knn: number,
  gate: number,
): { scores: T; indices: T; weights: T }
export function productKeyLookupBackward(
  outQuery: Optional,
  outKeys: Optional,
  dWeights: T,
  scores: T,
  indices: T,
  weights: T,
  query: T,
  keys: T,
  gate: number,
): { dQuery: T; dKeys: T }
export function embeddingBag(
  out: Optional,
  table: T,
  indices: T,
  weights: T,
  offsets: Optional,
  scales: Optional,
): T
export function embeddingBagBackward(
  outWeights: Optional,
  dy: T,
  table: T,
  indices: T,
  weights: T,
  offsets: Optional,
  scales: Optional,
  wantsWeights: boolean,
  wantsTable: boolean,
): { dWeights?: T; dTable?: SparseHandle }
export function sparseToDense(rows: T, values: T, count: T, slots: number): T
export function linear(out: Optional, x: T, weight: T, bias: Optional): T
export function linearBackward(
  outX: Optional,
  dy: T,
  x: T,
  weight: T,
  wantsX: boolean,
  wantsWeight: boolean,
  wantsBias: boolean,
  dWeight: Optional,
  dBias: Optional,
): { dx?: T; dWeight?: T; dBias?: T }
export function siluGate(out: Optional, y: T, a: T): T
export function siluGateBackward(
  outY: Optional,
  outA: Optional,
  dz: T,
  y: T,
  a: T,
): { dy: T; da: T }
export function sigmoidGate(out: Optional, y: T, g: T): T
export function sigmoidGateBackward(
  outY: Optional,
  outG: Optional,
  dOut: T,
  y: T,
  g: T,
): { dy: T; dg: T }
export function rmsNorm(out: Optional, x: T, gain: Optional, eps: number): T
export function rmsNormBackward(
  outX: Optional,
  dy: T,
  x: T,
  gain: Optional,
  eps: number,
  dGain: Optional,
): { dx: T; dGain?: T }
export function softmax(out: Optional, x: T): T
export function softmaxBackward(out: Optional, dy: T, y: T): T
export function activate(out: Optional, x: T, kind: number): T
export function activateBackward(out: Optional, dy: T, x: T, kind: number): T
export function add(out: Optional, x: T, y: T, alpha: number, beta: number): T
export function crossEntropy(out: Optional, logits: T, targets: T): T
export function crossEntropyBackward(out: Optional, dLoss: T, logits: T, targets: T): T
export function attention(
  outY: Optional,
  outLse: Optional,
  q: T,
  k: T,
  v: T,
  scale: number,
  causal: boolean,
): { y: T; lse: T }
export function attentionBackward(
  outQ: Optional,
  outK: Optional,
  outV: Optional,
  dy: T,
  y: T,
  lse: T,
  q: T,
  k: T,
  v: T,
  scale: number,
  causal: boolean,
): { dq: T; dk: T; dv: T }
export function peer(
  outOutput: Optional,
  outU: Optional,
  x: T,
  down: T,
  up: T,
  indices: T,
  weights: T,
  activation: number,
): { output: T; u: T }
export function peerBackward(
  outX: Optional,
  outWeights: Optional,
  dOut: T,
  x: T,
  down: T,
  up: T,
  indices: T,
  weights: T,
  u: T,
  activation: number,
): { dx: T; dWeights: T; dDown: SparseHandle; dUp: SparseHandle }

export function tableCreate(weight: T, scales: Optional): TableHandle
export function tableGradient(table: TableHandle): SparseHandle
export function tablePush(table: TableHandle, indices: T, weights: T, dy: T): void
export function tableClear(table: TableHandle): void
export function tableDispose(table: TableHandle): void
export function tablePending(table: TableHandle): number

/** The arguments of the query and its lookup, which memory and PEER layers share. */
export type QueryArguments = [
  inputDim: number,
  heads: number,
  knn: number,
  nKeys: number,
  keyDim: number,
  queryBias: boolean,
  queryNorm: boolean,
  seed: number,
]
export function memoryLayerCreate(
  ...args: [
    device: DeviceHandle,
    values: TableHandle,
    ...query: QueryArguments,
    outputDim: number,
    siluGate: boolean,
    outputGate: boolean,
  ]
): LayerHandle
export function memoryLayerForward(layer: LayerHandle, x: T): { output: T; context: ContextHandle }
export function memoryLayerInfer(layer: LayerHandle, x: T): T
export function memoryLayerBackward(layer: LayerHandle, context: ContextHandle, dy: T): T
export function layerDispose(layer: LayerHandle): void
export function peerDispose(layer: PeerHandle): void
export function contextDispose(context: ContextHandle): void
export function contextLookup(context: ContextHandle): { scores: T; indices: T; weights: T }
export function peerLayerCreate(
  ...args: [
    device: DeviceHandle,
    down: TableHandle,
    up: TableHandle,
    ...query: QueryArguments,
    activation: number,
  ]
): PeerHandle
export function peerLayerForward(layer: PeerHandle, x: T): { output: T; context: ContextHandle }
export function peerLayerInfer(layer: PeerHandle, x: T): T
export function peerLayerBackward(layer: PeerHandle, context: ContextHandle, dy: T): T

export function optimizerCreate(
  device: DeviceHandle,
  rule: number,
  values: T[],
  grads: T[],
  tables: TableHandle[],
): OptimizerHandle
export function optimizerStep(
  optimizer: OptimizerHandle,
  lr: number,
  beta1: number,
  beta2: number,
  eps: number,
  weightDecay: number,
  tableLr: number,
  everyRow: boolean,
): void
export function optimizerZeroGrad(optimizer: OptimizerHandle): void
export function optimizerDispose(optimizer: OptimizerHandle): void
export function clipGradients(
  device: DeviceHandle,
  grads: T[],
  tables: TableHandle[],
  maxNorm: number,
): T

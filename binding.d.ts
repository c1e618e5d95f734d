// The native addon's whole surface. lib/binding.ts is the only file that loads it; a test compares
// this list with the addon's real exports. Handles are opaque: each owns a native object until it
// is collected or disposed. Arguments named `out…` are results to write into, or undefined.

declare const native: unique symbol

export interface DeviceHandle {
  readonly [native]: 'device'
  readonly name: string
  readonly kind: 'cpu' | 'cuda' | 'simt'
  readonly description: string
  /** Of the CPU; 0 for others. */
  readonly threads: number
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
export interface CaptureHandle {
  readonly [native]: 'capture'
}
export interface SnapshotHandle {
  readonly [native]: 'snapshot'
}
/** The table of functions that memory_layers_mpi.node exports. */
export interface TransportHandle {
  readonly [native]: 'transport'
}
/** Ranks that exchange data, this one among them. */
export interface GroupHandle {
  readonly [native]: 'group'
  readonly rank: number
  readonly size: number
}
/** A collective on its way. */
export interface PendingHandle {
  readonly [native]: 'pending'
}
/** An optimizer's states of one parameter. */
export interface StateHandle {
  state1?: TensorHandle
  state2?: TensorHandle
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
/** The touched rows of a table and their gradients; `count` `[1]` is how many there are. */
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

type OptionalTensor = TensorHandle | undefined

/** In a development build only, for tests: test/support/failures.ts. */
export function failNext(kind: number, after: number, times: number): void
export function failureCalls(kind: number): number
/** Likewise: the limits of a container whose files are in this folder. */
export function containerLimits(folder: string): { memory: number; cores: number }

export function initialize(errorClass: new (code: string, message: string) => Error): void
export function crossings(): number
export function devices(): DeviceInfo[]
/** The CUDA runtime in the binary, and the first driver that runs it; undefined without one. */
export function cudaToolkit(): { version: string; driver: number } | undefined
export function isaNames(): string[]
export function openDevice(name: string, threads: number): DeviceHandle
/** Resolves when the work that was enqueued has run, and its threads and memory are gone. */
export function deviceClose(device: DeviceHandle): Promise<void>
export function deviceClosed(device: DeviceHandle): boolean
export function deviceMemory(device: DeviceHandle): MemoryInfo
export function deviceProfile(
  device: DeviceHandle,
): Record<string, { calls: number; milliseconds: number }>
export function deviceSynchronize(device: DeviceHandle): Promise<void>
/** Work on the device is kept, and enqueued by the matching batchEnd with `commit`, or dropped. */
export function batchBegin(device: DeviceHandle): void
export function batchEnd(device: DeviceHandle, commit: boolean): void

/** From here on the device's work is recorded, until captureFinish, or captureDispose. */
export function captureBegin(device: DeviceHandle): CaptureHandle
/** A tensor of 4-byte numbers, which each replay writes before the work runs. */
export function captureNumbers(
  capture: CaptureHandle,
  shape: readonly number[],
  dtype: number,
): TensorHandle
export function captureFinish(capture: CaptureHandle): void
/** `numbers`: the bytes of all captureNumbers, in their order. */
export function captureReplay(capture: CaptureHandle, numbers: Uint8Array): void
/** Of one that was not finished, too: nothing has changed then. */
export function captureDispose(capture: CaptureHandle): void

/** `file`: an open descriptor; `path` is for messages. */
export function tensorMap(
  device: DeviceHandle,
  file: number,
  path: string,
  byteOffset: number,
  shape: readonly number[],
  dtype: number,
): TensorHandle
/** Whether the lock was taken; undefined where the file system has none. */
export function fileLock(file: number): boolean | undefined
/** Of tensors that are added; each is known by its number. */
export function snapshotCreate(): SnapshotHandle
export function snapshotAdd(snapshot: SnapshotHandle, tensor: TensorHandle): void
/** A tensor's next bytes as uint8; they are right for a read that is enqueued at once. */
export function snapshotNext(snapshot: SnapshotHandle, index: number, bytes: number): TensorHandle
export function snapshotRelease(snapshot: SnapshotHandle, index: number): void
export function snapshotDispose(snapshot: SnapshotHandle): void

export function tensorFrom(
  device: DeviceHandle,
  data: ArrayBufferView,
  shape: readonly number[],
  dtype: number,
): TensorHandle
export function tensorEmpty(
  device: DeviceHandle,
  shape: readonly number[],
  dtype: number,
  operation?: string,
): TensorHandle
export function tensorFill(tensor: TensorHandle, value: number): void
/**
 * kind 0: uniform in [a, b); 1: normal with mean a and standard deviation b. With a width above 0
 * the tensor holds the columns from `first` on of one `[rows, width]`.
 */
export function tensorRandom(
  tensor: TensorHandle,
  kind: number,
  a: number,
  b: number,
  seed: number,
  first: number,
  width: number,
): void
export function tensorRead(tensor: TensorHandle, operation?: string): Promise<ArrayBuffer>
export function tensorReadSync(tensor: TensorHandle): ArrayBuffer
export function tensorWrite(tensor: TensorHandle, byteOffset: number, data: ArrayBufferView): void
export function tensorCopy(target: TensorHandle, source: TensorHandle): void
export function tensorsOverwritten(
  targets: readonly TensorHandle[],
  sources: readonly TensorHandle[],
): number[]
export function tensorTransfer(target: TensorHandle, source: TensorHandle): void
export function tensorWrites(tensor: TensorHandle): number
export function tensorWrittenSince(tensor: TensorHandle, writes: number): boolean
export function tensorView(
  tensor: TensorHandle,
  offset: number,
  shape: readonly number[],
): TensorHandle
export function tensorDispose(tensor: TensorHandle): void

export function productKeyScores(
  out: OptionalTensor,
  query: TensorHandle,
  keys: TensorHandle,
): TensorHandle
export function topK(
  outValues: OptionalTensor,
  outIndices: OptionalTensor,
  x: TensorHandle,
  k: number,
): { values: TensorHandle; indices: TensorHandle }
export function countReads(
  reads: TensorHandle,
  batches: TensorHandle,
  marks: TensorHandle,
  total: TensorHandle,
  touched: TensorHandle,
  sums: TensorHandle,
  indices: TensorHandle,
  batch: number,
): void
export function listReads(touched: TensorHandle, sums: TensorHandle, reads: TensorHandle): void
/** The bytes of rows, `[R, bytes of a row]` uint8. */
export function readRows(table: TensorHandle, rows: TensorHandle): TensorHandle
export function productKeyLookup(
  outScores: OptionalTensor,
  outIndices: OptionalTensor,
  outWeights: OptionalTensor,
  query: TensorHandle,
  keys: TensorHandle,
  mask: OptionalTensor,
  knn: number,
  gate: number,
  compute: number,
): { scores: TensorHandle; indices: TensorHandle; weights: TensorHandle }
export function productKeyLookupBackward(
  outQuery: OptionalTensor,
  outKeys: OptionalTensor,
  dWeights: TensorHandle,
  scores: TensorHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  query: TensorHandle,
  keys: TensorHandle,
  gate: number,
  compute: number,
): { dQuery: TensorHandle; dKeys: TensorHandle }
export function embeddingBag(
  out: OptionalTensor,
  table: TensorHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  offsets: OptionalTensor,
  scales: OptionalTensor,
): TensorHandle
export function embeddingBagBackward(
  outWeights: OptionalTensor,
  dy: TensorHandle,
  table: TensorHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  offsets: OptionalTensor,
  scales: OptionalTensor,
  needsWeights: boolean,
  needsTable: boolean,
): { dWeights?: TensorHandle; dTable?: SparseHandle }
export function sparseToDense(
  rows: TensorHandle,
  values: TensorHandle,
  count: TensorHandle,
  slots: number,
): TensorHandle
export function linear(
  out: OptionalTensor,
  x: TensorHandle,
  weight: TensorHandle,
  bias: OptionalTensor,
  compute: number,
): TensorHandle
export function linearBackward(
  outX: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  weight: TensorHandle,
  compute: number,
  needsX: boolean,
  needsWeight: boolean,
  needsBias: boolean,
  dWeight: OptionalTensor,
  dBias: OptionalTensor,
): { dx?: TensorHandle; dWeight?: TensorHandle; dBias?: TensorHandle }
export function groupByIndex(
  outOrder: OptionalTensor,
  outBags: OptionalTensor,
  outPositions: OptionalTensor,
  outOffsets: OptionalTensor,
  indices: TensorHandle,
  groups: number,
): { order: TensorHandle; bags: TensorHandle; positions: TensorHandle; offsets: TensorHandle }
export function groupedLinear(
  out: OptionalTensor,
  x: TensorHandle,
  weights: TensorHandle,
  offsets: TensorHandle,
  bias: OptionalTensor,
  compute: number,
): TensorHandle
export function groupedLinearBackward(
  outX: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  weights: TensorHandle,
  offsets: TensorHandle,
  wantsX: boolean,
  wantsWeights: boolean,
  wantsBias: boolean,
  dWeights: OptionalTensor,
  dBias: OptionalTensor,
  compute: number,
): { dx?: TensorHandle; dWeights?: TensorHandle; dBias?: TensorHandle }
export function matmul(
  out: OptionalTensor,
  x: TensorHandle,
  y: TensorHandle,
  transposeX: boolean,
  transposeY: boolean,
  compute: number,
): TensorHandle
export function matmulBackward(
  outX: OptionalTensor,
  outY: OptionalTensor,
  dOut: TensorHandle,
  x: TensorHandle,
  y: TensorHandle,
  transposeX: boolean,
  transposeY: boolean,
  compute: number,
  wantsX: boolean,
  wantsY: boolean,
): { dx?: TensorHandle; dy?: TensorHandle }
export function siluGate(out: OptionalTensor, y: TensorHandle, a: TensorHandle): TensorHandle
export function siluGateBackward(
  outY: OptionalTensor,
  outA: OptionalTensor,
  dz: TensorHandle,
  y: TensorHandle,
  a: TensorHandle,
): { dy: TensorHandle; da: TensorHandle }
export function sigmoidGate(out: OptionalTensor, y: TensorHandle, g: TensorHandle): TensorHandle
export function sigmoidGateBackward(
  outY: OptionalTensor,
  outG: OptionalTensor,
  dOut: TensorHandle,
  y: TensorHandle,
  g: TensorHandle,
): { dy: TensorHandle; dg: TensorHandle }
export function rmsNorm(
  out: OptionalTensor,
  x: TensorHandle,
  gain: OptionalTensor,
  eps: number,
): TensorHandle
export function rmsNormBackward(
  outX: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  gain: OptionalTensor,
  eps: number,
  dGain: OptionalTensor,
): { dx: TensorHandle; dGain?: TensorHandle }
export function softmax(out: OptionalTensor, x: TensorHandle): TensorHandle
export function softmaxBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  y: TensorHandle,
): TensorHandle
export function activate(out: OptionalTensor, x: TensorHandle, kind: number): TensorHandle
export function activateBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  kind: number,
): TensorHandle
export function arithmetic(
  operation: string,
  out: OptionalTensor,
  x: OptionalTensor,
  xValue: number,
  y: OptionalTensor,
  yValue: number,
  kind: number,
  alpha: number,
  beta: number,
): TensorHandle
export function layerNorm(
  out: OptionalTensor,
  x: TensorHandle,
  weight: OptionalTensor,
  bias: OptionalTensor,
  eps: number,
): TensorHandle
export function layerNormBackward(
  outX: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  weight: OptionalTensor,
  eps: number,
  needsX: boolean,
  needsWeight: boolean,
  needsBias: boolean,
  dWeight: OptionalTensor,
  dBias: OptionalTensor,
): { dx?: TensorHandle; dWeight?: TensorHandle; dBias?: TensorHandle }
export function rope(
  out: OptionalTensor,
  x: TensorHandle,
  positions: OptionalTensor,
  theta: number,
  offset: number,
): TensorHandle
export function ropeBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  positions: OptionalTensor,
  theta: number,
  offset: number,
): TensorHandle
export function embedding(
  out: OptionalTensor,
  table: TensorHandle,
  indices: TensorHandle,
  scales: OptionalTensor,
): TensorHandle
export function embeddingBackward(
  dy: TensorHandle,
  table: TensorHandle,
  indices: TensorHandle,
): SparseHandle
export function dropout(
  out: OptionalTensor,
  x: TensorHandle,
  p: number,
  seed: number,
  step: number,
  numbers?: TensorHandle,
): TensorHandle
export function dropoutBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  p: number,
  seed: number,
  step: number,
  numbers?: TensorHandle,
): TensorHandle
export function multinomial(
  out: OptionalTensor,
  logits: TensorHandle,
  temperature: number,
  topK: number,
  topP: number,
  count: number,
  seed: number,
  step: number,
): TensorHandle
export function causalConv1d(
  out: OptionalTensor,
  x: TensorHandle,
  weight: TensorHandle,
  bias: OptionalTensor,
  dilation: number,
): TensorHandle
export function causalConv1dBackward(
  outX: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  weight: TensorHandle,
  dilation: number,
  needsX: boolean,
  needsWeight: boolean,
  needsBias: boolean,
  dWeight: OptionalTensor,
  dBias: OptionalTensor,
): { dx?: TensorHandle; dWeight?: TensorHandle; dBias?: TensorHandle }
export function concat(
  out: OptionalTensor,
  tensors: readonly TensorHandle[],
  axis: number,
): TensorHandle
export function slice(
  out: OptionalTensor,
  x: TensorHandle,
  begin: readonly number[],
  size: readonly number[],
): TensorHandle
export function sliceBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  begin: readonly number[],
  shape: readonly number[],
): TensorHandle
export function permute(out: OptionalTensor, x: TensorHandle, axes: readonly number[]): TensorHandle
export function unary(
  operation: string,
  out: OptionalTensor,
  x: TensorHandle,
  kind: number,
): TensorHandle
export function reduce(
  operation: string,
  out: OptionalTensor,
  x: TensorHandle,
  axes: number,
  keepDims: boolean,
  kind: number,
): TensorHandle
export function sumBackward(
  operation: string,
  out: OptionalTensor,
  dy: TensorHandle,
  shape: readonly number[],
  axes: number,
  keepDims: boolean,
  kind: number,
): TensorHandle
export function maxBackward(
  out: OptionalTensor,
  dy: TensorHandle,
  x: TensorHandle,
  y: TensorHandle,
  axes: number,
  keepDims: boolean,
): TensorHandle
export function crossEntropy(
  out: OptionalTensor,
  logits: TensorHandle,
  targets: TensorHandle,
): TensorHandle
export function crossEntropyBackward(
  out: OptionalTensor,
  dLoss: TensorHandle,
  logits: TensorHandle,
  targets: TensorHandle,
): TensorHandle
export function targetWeights(
  outKept: OptionalTensor,
  outWeights: OptionalTensor,
  targets: TensorHandle,
  ignoreIndex: number,
): { kept: TensorHandle; weights: TensorHandle }
export function attention(
  outY: OptionalTensor,
  outLse: OptionalTensor,
  q: TensorHandle,
  k: TensorHandle,
  v: TensorHandle,
  scale: number,
  causal: boolean,
): { y: TensorHandle; lse: TensorHandle }
export function attentionBackward(
  outQ: OptionalTensor,
  outK: OptionalTensor,
  outV: OptionalTensor,
  dy: TensorHandle,
  y: TensorHandle,
  lse: TensorHandle,
  q: TensorHandle,
  k: TensorHandle,
  v: TensorHandle,
  scale: number,
  causal: boolean,
): { dq: TensorHandle; dk: TensorHandle; dv: TensorHandle }
export function peer(
  outOutput: OptionalTensor,
  outU: OptionalTensor,
  x: TensorHandle,
  down: TensorHandle,
  up: TensorHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  activation: number,
): { output: TensorHandle; u: TensorHandle }
export function peerBackward(
  outX: OptionalTensor,
  outWeights: OptionalTensor,
  dOut: TensorHandle,
  x: TensorHandle,
  down: TensorHandle,
  up: TensorHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  u: TensorHandle,
  activation: number,
  downTable?: TableHandle,
  upTable?: TableHandle,
): { dx: TensorHandle; dWeights: TensorHandle; dDown?: SparseHandle; dUp?: SparseHandle }

export function tableCreate(weight: TensorHandle, scales: OptionalTensor): TableHandle
export function tableGradient(table: TableHandle): SparseHandle
export function tablePush(
  table: TableHandle,
  indices: TensorHandle,
  weights: TensorHandle,
  dy: TensorHandle,
  offsets?: TensorHandle,
): void
/** The queued reads, which leave the queue, and the dense part of the gradient, if it counts. */
export function tableTake(table: TableHandle): {
  reads: {
    indices: TensorHandle
    weights: TensorHandle
    dy: TensorHandle
    offsets?: TensorHandle
  }[]
  dense?: TensorHandle
}
/** The dense part of a table's gradient, `[N, V]` float32; counts from tableDenseAdded on. */
export function tableDense(table: TableHandle): TensorHandle
export function tableDenseAdded(table: TableHandle): void
export function tableExact(table: TableHandle): TensorHandle
export function tableSetExact(table: TableHandle, values: TensorHandle): void
/** What is written to the table from here on is journaled. */
export function tableTrack(table: TableHandle): void
export function tableUntrack(table: TableHandle): void
/** The rows that were written, and their bits before: the first `count` `[1]` of each. */
export function tableJournal(
  table: TableHandle,
):
  | { rows?: TensorHandle; bits?: TensorHandle; exact?: TensorHandle; count: TensorHandle }
  | undefined
/** `added`: how many rows were written, one by one. */
export function tableJournalCount(
  table: TableHandle,
): { count: TensorHandle; added: number } | undefined
/** The journal of that count had so many rows when `added` was what it was. */
export function tableJournalKnown(
  table: TableHandle,
  count: TensorHandle,
  rows: number,
  added: number,
): void
/** The bytes of rows, and of their exact values if the table has them. */
export function tableReadRows(
  table: TableHandle,
  rows: TensorHandle,
): { bits: TensorHandle; exact?: TensorHandle }
export function tableWriteRows(
  table: TableHandle,
  rows: TensorHandle,
  bits: TensorHandle,
  exact: OptionalTensor,
): void
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
  compute: number,
]
export function memoryLayerCreate(
  ...args: [
    device: DeviceHandle,
    values: TableHandle,
    ...query: QueryArguments,
    valueDim: number,
    outputDim: number,
    siluGate: boolean,
    outputGate: boolean,
  ]
): LayerHandle
export function memoryLayerForward(
  layer: LayerHandle,
  x: TensorHandle,
): { output: TensorHandle; context: ContextHandle }
export function memoryLayerInfer(layer: LayerHandle, x: TensorHandle): TensorHandle
export function memoryLayerBackward(
  layer: LayerHandle,
  context: ContextHandle,
  dy: TensorHandle,
): TensorHandle
/**
 * The parts of a forward and a backward around the reads of a table whose columns are divided among
 * ranks. First: the query and its lookup, indices and weights `[T, L]`.
 */
export function memoryLayerLookUp(
  layer: LayerHandle,
  x: TensorHandle,
  save: boolean,
): { context: ContextHandle; indices: TensorHandle; weights: TensorHandle }
/** What needs no rows, while they are on their way. */
export function memoryLayerGate(layer: LayerHandle, context: ContextHandle): void
/** Likewise, back: after memoryLayerBackwardRows. */
export function memoryLayerBackwardGate(layer: LayerHandle, context: ContextHandle): void
/** Then, from the rows that were read, `[T, V]`: the output. The context keeps `kept`. */
export function memoryLayerFinish(
  layer: LayerHandle,
  context: ContextHandle,
  y: TensorHandle,
  kept: readonly TensorHandle[],
  save: boolean,
): TensorHandle
/** Back: the gradient of those rows, and what the context kept. */
export function memoryLayerBackwardRows(
  layer: LayerHandle,
  context: ContextHandle,
  dy: TensorHandle,
): { rows: TensorHandle; kept: TensorHandle[] }
/** At last, from the gradient of the weights: dx. Spends the context. */
export function memoryLayerBackwardLookup(
  layer: LayerHandle,
  context: ContextHandle,
  dWeights: TensorHandle,
): TensorHandle
export function peerLayerLookUp(
  layer: PeerHandle,
  x: TensorHandle,
  save: boolean,
): { context: ContextHandle; indices: TensorHandle; weights: TensorHandle }
export function peerLayerKeep(
  layer: PeerHandle,
  context: ContextHandle,
  kept: readonly TensorHandle[],
): void
/** Checks the context, and gives dy as rows, `[T, outputDim]`. */
export function peerLayerBackwardRows(
  layer: PeerHandle,
  context: ContextHandle,
  dy: TensorHandle,
): { rows: TensorHandle; kept: TensorHandle[] }
/** Adds to dx what the lookup makes of the gradient of its weights. Spends the context. */
export function peerLayerBackwardLookup(
  layer: PeerHandle,
  context: ContextHandle,
  dWeights: TensorHandle,
  dx: TensorHandle,
): TensorHandle
/** `[8]` int32: the bits of four float64 numbers, lib/usage.ts; counting starts anew. */
export function memoryLayerUsage(layer: LayerHandle): TensorHandle
export function peerLayerUsage(layer: PeerHandle): TensorHandle
export function layerDispose(layer: LayerHandle): void
export function peerDispose(layer: PeerHandle): void
export function contextDispose(context: ContextHandle): void
export function contextLookup(context: ContextHandle): {
  scores: TensorHandle
  indices: TensorHandle
  weights: TensorHandle
}
export function peerLayerCreate(
  ...args: [
    device: DeviceHandle,
    down: TableHandle,
    up: TableHandle,
    ...query: QueryArguments,
    outputDim: number,
    activation: number,
  ]
): PeerHandle
export function peerLayerForward(
  layer: PeerHandle,
  x: TensorHandle,
): { output: TensorHandle; context: ContextHandle }
export function peerLayerInfer(layer: PeerHandle, x: TensorHandle): TensorHandle
export function peerLayerBackward(
  layer: PeerHandle,
  context: ContextHandle,
  dy: TensorHandle,
): TensorHandle

export function optimizerCreate(
  device: DeviceHandle,
  name: string,
  rule: number,
  names: string[],
  values: TensorHandle[],
  grads: TensorHandle[],
  tables: TableHandle[],
): OptimizerHandle
/**
 * `rates`: learning rate and weight decay of each parameter, dense ones first. If `condition` is
 * void, nothing is updated. `deviceRates`: float32 learning rates in place of those in `rates`.
 * `rows`: those that may be updated of each table; then nothing else is.
 */
export function optimizerStep(
  optimizer: OptimizerHandle,
  rates: Float64Array,
  beta1: number,
  beta2: number,
  eps: number,
  everyRow: boolean,
  condition: OptionalTensor,
  deviceRates: OptionalTensor,
  rows?: (TensorHandle | undefined)[],
): void
export function optimizerZeroGrad(optimizer: OptimizerHandle): void
export function optimizerDispose(optimizer: OptimizerHandle): void
/** `apart`: tables that are clipped by a norm of their own, which is the second of the result. */
export function clipGradients(
  device: DeviceHandle,
  names: string[],
  grads: TensorHandle[],
  tables: TableHandle[],
  apart: TableHandle[] | undefined,
  maxNorm: number,
): TensorHandle
/** `[2]` int32: the bits of the float64 sum of squares of gradients. */
export function gradientSquares(
  device: DeviceHandle,
  grads: TensorHandle[],
  tables: TableHandle[],
): TensorHandle
/** Clips by such sums of all parts, `[2 n]` int32; returns the norm. */
export function clipBySquares(
  device: DeviceHandle,
  grads: TensorHandle[],
  tables: TableHandle[],
  sums: TensorHandle,
  maxNorm: number,
): TensorHandle
/**
 * A copy of x and `[1]` scale, both void unless x is finite and `after`, if given, is not void.
 * `norm`: x is a gradient's norm, else a loss.
 */
export function requireFinite(
  x: TensorHandle,
  after: OptionalTensor,
  norm: boolean,
  step: number,
  scale: number,
): { values: TensorHandle; unit: TensorHandle }

/** Name and version of the MPI library. */
export function transportLibrary(transport: TransportHandle): string
/** Joins the ranks that the launcher has started. `timeout` in milliseconds. */
export function worldStart(transport: TransportHandle, timeout: number): Promise<GroupHandle>
/** Leaves them; the group, which must be that of all ranks, can't be used after the call. */
export function worldFinish(group: GroupHandle): Promise<void>
/** `members`: ranks of the world; groups with a rank in common have different numbers. */
export function groupMake(
  group: GroupHandle,
  members: readonly number[],
  number: number,
): GroupHandle
/** Equally many bytes of every rank, between hosts: those of all, in the order of the ranks. */
export function groupExchange(group: GroupHandle, data: ArrayBufferView): Promise<ArrayBuffer>
export function groupExchangeSync(group: GroupHandle, data: ArrayBufferView): ArrayBuffer
export function groupTraffic(
  group: GroupHandle,
): Record<string, { calls: number; sent: number; received: number }>
/** Bytes to each rank. */
export function groupSentTo(group: GroupHandle): number[]
/** combine 0: sum; 1: mean. */
export function allReduce(group: GroupHandle, x: TensorHandle, combine: number): void
export function allReduceStart(group: GroupHandle, x: TensorHandle, combine: number): PendingHandle
export function broadcast(group: GroupHandle, x: TensorHandle, root: number): void
/** `rows`: of every rank. The tensor is defined from pendingWait() on. */
export function allGather(
  group: GroupHandle,
  x: TensorHandle,
  rows: readonly number[],
): { tensor: TensorHandle; pending: PendingHandle }
export function allToAll(
  group: GroupHandle,
  x: TensorHandle,
  send: readonly number[],
  receive: readonly number[],
): { tensor: TensorHandle; pending: PendingHandle }
export function reduceScatter(
  group: GroupHandle,
  x: TensorHandle,
  rows: readonly number[],
): TensorHandle
/** Sums what has arrived and sends the sums on. */
export function pendingAdvance(pending: PendingHandle): void
/** Work that follows finds what was received. */
export function pendingWait(pending: PendingHandle): void

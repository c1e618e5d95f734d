// The operations. Each takes tensors on one device, enqueues its work there and returns new tensors at once; `out` reuses one.
// Letters: T tokens, H heads, n half-keys per half, N = n*n slots, d half-key width, k neighbours, L bag size, V value width.

import { native, type SparseHandle, type TensorHandle } from './binding.js'
import type { Device } from './device.js'
import { fail, MemoryLayersError } from './errors.js'
import { boolean, choice, integer, number, options } from './options.js'
import { handles, optionalHandle, Tensor, text } from './tensor.js'

/** `out`: a tensor of the result's shape and dtype to write into, instead of a new one. */
export interface OutOptions {
  /** A tensor of the result's shape and dtype. */
  out?: Tensor
}

const gates: readonly Gate[] = ['softmax', 'relu', 'sigmoid', 'none']
/** How scores become weights: softmax over the k winners, or each by itself. */
export type Gate = 'softmax' | 'relu' | 'sigmoid' | 'none'

const activations: readonly Activation[] = ['relu', 'gelu', 'silu', 'sigmoid']
/** Elementwise functions; gelu is the exact (erf) one. */
export type Activation = 'relu' | 'gelu' | 'silu' | 'sigmoid'

/** @internal */
export function activationCode(where: string, name: Activation): number {
  return choice(where, 'activation', name, activations)
}

function wrap(device: Device, handle: TensorHandle, out?: Tensor): Tensor {
  if (!out) return new Tensor(device, handle)
  native.tensorDispose(handle) // `out` has its own handle on the same memory
  return out
}

/** `out` of an operation with several results: any of them may be given. */
export type Outputs<Name extends string> = { out?: Partial<Record<Name, Tensor>> }

/** Handles of the outputs that were given, in the order of `names`. */
function outputs<Name extends string>(
  where: string,
  given: Outputs<Name>['out'],
  device: Device,
  ...names: Name[]
): (TensorHandle | undefined)[] {
  const out = options(`${where}: out`, given, names) as Partial<Record<Name, Tensor>>
  return names.map((name) => optionalHandle(where, `out.${name}`, out[name], device))
}

/** The tensors of a call, checked, and `out` as native code takes it. */
function prepare(where: string, tensors: Record<string, Tensor>, given?: OutOptions) {
  const list = handles(where, tensors)
  const device = Object.values(tensors)[0]!.device
  return { list, device, out: optionalHandle(where, 'out', given?.out, device) }
}

/** Half-key scores of every query: `scores[t, h, p, j] = <query[t, h, p, :], keys[h, p, j, :]>`. For study and tests: {@link productKeyLookup} never stores them.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]` of the dtype of the query
 * @returns `[T, H, 2, n]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function productKeyScores(query: Tensor, keys: Tensor, given?: OutOptions): Tensor {
  options('productKeyScores', given, ['out'])
  const { list, device, out } = prepare('productKeyScores', { query, keys }, given)
  return wrap(device, native.productKeyScores(out, list[0]!, list[1]!), given?.out)
}

/** The k greatest values of the last axis, sorted: value descending, then index ascending. NaN counts as the greatest.
 * @param x `[..., n]` float32
 * @param k from 1 to n
 * @returns values `[..., k]` float32 and indices `[..., k]` int32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE for k outside 1 … n */
export function topK(x: Tensor, k: number, given?: Outputs<'values' | 'indices'>): { values: Tensor; indices: Tensor } {
  const { out } = options('topK', given, ['out'])
  const { list, device } = prepare('topK', { x })
  integer('topK', 'k', k)
  const [values, indices] = outputs('topK', out, device, 'values', 'indices')
  const r = native.topK(values, indices, list[0]!, k)
  return { values: wrap(device, r.values, out?.values), indices: wrap(device, r.indices, out?.indices) }
}

/** What a lookup found: the k best slots of each token and head, best first, and what its backward needs. */
export interface Lookup {
  /** `[T, H, k]` float32: sum of the two half scores; -Infinity at an empty place. */
  scores: Tensor
  /** `[T, H, k]` int32: slot = i1 * n + i2; -1 at an empty place. */
  indices: Tensor
  /** `[T, H, k]` float32: the gate over the scores; 0 at an empty place. */
  weights: Tensor
  /** The gate of the weights. */
  gate: Gate
  /** k. */
  knn: number
}

/** Options of the operation of that name. */
export interface LookupOptions extends Outputs<'scores' | 'indices' | 'weights'> {
  /** Winners per token and head. May exceed n; places that can't be filled are empty. */
  knn: number
  /** Default 'softmax'. */
  gate?: Gate
  /** `[H, 2, n]` uint8: half-keys with 0 are never selected. */
  mask?: Tensor
}

/** Product-key lookup (Lample et al. 2019, section 3.1): the exact best k of n*n slots from the top k of each half, ties in a total order.
 * @param query `[T, H, 2, d]` float32, float16 or bfloat16
 * @param keys `[H, 2, n, d]` of the dtype of the query
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_VALUE, ERR_OPTION */
export function productKeyLookup(query: Tensor, keys: Tensor, given: LookupOptions): Lookup {
  const where = 'productKeyLookup'
  const o = options(where, given, ['knn', 'gate', 'mask', 'out'])
  const { list, device } = prepare(where, { query, keys })
  const gate = o.gate ?? 'softmax'
  const knn = integer(where, 'knn', o.knn)
  const mask = optionalHandle(where, 'mask', o.mask, device)
  const [s, i, w] = outputs(where, o.out, device, 'scores', 'indices', 'weights')
  const r = native.productKeyLookup(s, i, w, list[0]!, list[1]!, mask, knn, choice(where, 'gate', gate, gates))
  return {
    scores: wrap(device, r.scores, o.out?.scores),
    indices: wrap(device, r.indices, o.out?.indices),
    weights: wrap(device, r.weights, o.out?.weights),
    gate,
    knn,
  }
}

/** Gradients of {@link productKeyLookup}, selection taken as constant.
 * @param dWeights `[T, H, k]` float32
 * @returns dQuery `[T, H, 2, d]`, dKeys `[H, 2, n, d]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_INDEX_RANGE */
export function productKeyLookupBackward(
  lookup: Lookup,
  dWeights: Tensor,
  inputs: { query: Tensor; keys: Tensor },
  given?: Outputs<'dQuery' | 'dKeys'>,
): { dQuery: Tensor; dKeys: Tensor } {
  const where = 'productKeyLookupBackward'
  if (typeof lookup !== 'object' || lookup === null) fail('ERR_VALUE', where, 'lookup', 'be the result of productKeyLookup', lookup)
  const { query, keys } = options(where, inputs, ['query', 'keys'])
  const { out } = options(where, given, ['out'])
  const { scores, indices, weights } = lookup
  const all = { dWeights, 'lookup.scores': scores, 'lookup.indices': indices, 'lookup.weights': weights, query: query!, keys: keys! }
  const { list, device } = prepare(where, all)
  const [dw, s, i, w, q, ks] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle]
  const [dQuery, dKeys] = outputs(where, out, device, 'dQuery', 'dKeys')
  const r = native.productKeyLookupBackward(dQuery, dKeys, dw, s, i, w, q, ks, choice(where, 'lookup.gate', lookup.gate, gates))
  return { dQuery: wrap(device, r.dQuery, out?.dQuery), dKeys: wrap(device, r.dKeys, out?.dKeys) }
}

/** The gradient of a table that was read by bags: the touched rows alone. It stays on the device, its number of rows too. */
export class SparseGrad {
  readonly #device: Device
  readonly #rows: Tensor
  readonly #values: Tensor
  readonly #count: Tensor
  readonly #slots: number

  /** @internal */
  constructor(device: Device, handle: SparseHandle) {
    this.#device = device
    this.#rows = new Tensor(device, handle.rows)
    this.#values = new Tensor(device, handle.values)
    this.#count = new Tensor(device, handle.count)
    this.#slots = handle.slots
  }

  /** `[N, V]` of the table. */
  get shape(): readonly number[] {
    return [this.#slots, this.#values.shape[1]!]
  }

  /** The R touched rows, ascending, and their gradients `[R * V]`. */
  async data(): Promise<{ rows: Int32Array; values: Float32Array }> {
    const count = ((await this.#count.data()) as Int32Array)[0]!
    const rows = this.#rows.rows(0, count)
    const values = this.#values.rows(0, count)
    try {
      return { rows: (await rows.data()) as Int32Array, values: (await values.data()) as Float32Array }
    } finally {
      rows.dispose()
      values.dispose()
    }
  }

  /** The same gradient as a dense `[N, V]` tensor, for small tables and tests. */
  toDense(): Tensor {
    const [rows, values, count] = handles('SparseGrad.toDense', { rows: this.#rows, values: this.#values, count: this.#count })
    return new Tensor(this.#device, native.sparseToDense(rows!, values!, count!, this.#slots))
  }

  /** Gives the memory back. */
  dispose(): void {
    this.#rows.dispose()
    this.#values.dispose()
    this.#count.dispose()
  }

  /** For `using`: the same as dispose(). */
  [Symbol.dispose](): void {
    this.dispose()
  }
}

/** Options of the operation of that name. */
export interface BagOptions extends OutOptions {
  /** `[B + 1]` int32, for ragged bags: bag b has places `offsets[b]` … `offsets[b + 1] - 1`; indices and weights are then `[nnz]`. */
  offsets?: Tensor
  /** `[N]` float32: a factor for each row (int8 tables). */
  scales?: Tensor
}

/** Indices as a tensor, or as numbers in the shape of the weights; numbers are checked here, at the call. */
export type Indices = Tensor | Int32Array | readonly number[]

/** Uploads indices given as numbers. `temporary` is disposed by the caller. */
function takeIndices(where: string, indices: Indices, weights: Tensor, slots: number): { tensor: Tensor; temporary?: Tensor } {
  if (indices instanceof Tensor) return { tensor: indices }
  if (!(indices instanceof Int32Array) && !Array.isArray(indices)) {
    fail('ERR_DTYPE', where, 'indices', 'be an int32 Tensor, an Int32Array or an array of integers', indices)
  }
  for (let i = 0; i < indices.length; i++) {
    const index = indices[i]!
    if (!Number.isInteger(index) || index < -1 || index >= slots) {
      throw new MemoryLayersError(
        'ERR_INDEX_RANGE',
        `${where}: "indices"[${i}] is ${index}, outside [0, ${slots}).\n  -1 marks an empty place.`,
      )
    }
  }
  if (indices.length !== weights.size) {
    fail('ERR_SHAPE', where, 'indices', `have ${weights.size} elements as "weights" ${text(weights.shape)} has`, String(indices.length))
  }
  const temporary = weights.device.tensor(indices, weights.shape, 'int32')
  return { tensor: temporary, temporary }
}

function tableSlots(where: string, table: Tensor): number {
  handles(where, { table })
  if (table.shape.length !== 2) fail('ERR_SHAPE', where, 'table', 'have shape [slots, dim]', text(table.shape))
  return table.shape[0]!
}

/** The sparse weighted embedding bag: `y[b, :] = sum over l of weights[b, l] * table[indices[b, l], :]`. Index -1 is an empty place.
 * @param table `[N, V]` float32, float16, bfloat16 or int8 (with `scales`)
 * @param indices `[T, L]` int32, or `[nnz]` with `offsets`
 * @param weights float32 in the shape of the indices
 * @returns `[T, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the call for numbers, at the next wait for tensors */
export function embeddingBag(table: Tensor, indices: Indices, weights: Tensor, given?: BagOptions): Tensor {
  const where = 'embeddingBag'
  const o = options(where, given, ['offsets', 'scales', 'out'])
  handles(where, { weights })
  const { tensor, temporary } = takeIndices(where, indices, weights, tableSlots(where, table))
  try {
    const { list, device, out } = prepare(where, { table, indices: tensor, weights }, o)
    const offsets = optionalHandle(where, 'offsets', o.offsets, device)
    const scales = optionalHandle(where, 'scales', o.scales, device)
    return wrap(device, native.embeddingBag(out, list[0]!, list[1]!, list[2]!, offsets, scales), o.out)
  } finally {
    temporary?.dispose()
  }
}

/** Options of the operation of that name. */
export interface BagBackwardOptions extends Outputs<'dWeights'> {
  /** As in {@link BagOptions}. */
  offsets?: Tensor
  /** As in {@link BagOptions}; the table's gradient can't be had with it. */
  scales?: Tensor
  /** Which gradients to make; default both. */
  needs?: { table?: boolean; weights?: boolean }
  /** 'sorted' (the default, and the only one so far): a stable sort and ordered sums, bitwise repeatable. */
  algorithm?: 'sorted'
}

/** Gradients of {@link embeddingBag}: `dWeights[b, l] = <dy[b, :], table[indices[b, l], :]>`, and the table's as touched rows.
 * @param dy `[T, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE as {@link embeddingBag} */
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given?: BagBackwardOptions & { needs?: { table?: true; weights?: true } },
): { dWeights: Tensor; dTable: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given: BagBackwardOptions,
): { dWeights?: Tensor; dTable?: SparseGrad }
export function embeddingBagBackward(
  dy: Tensor,
  table: Tensor,
  indices: Indices,
  weights: Tensor,
  given?: BagBackwardOptions,
): { dWeights?: Tensor; dTable?: SparseGrad } {
  const where = 'embeddingBagBackward'
  const o = options(where, given, ['offsets', 'scales', 'needs', 'algorithm', 'out'])
  const needs = options(where, o.needs, ['table', 'weights'])
  choice(where, 'algorithm', o.algorithm ?? 'sorted', ['sorted'])
  handles(where, { weights })
  const { tensor, temporary } = takeIndices(where, indices, weights, tableSlots(where, table))
  try {
    const { list, device } = prepare(where, { dy, table, indices: tensor, weights })
    const offsets = optionalHandle(where, 'offsets', o.offsets, device)
    const scales = optionalHandle(where, 'scales', o.scales, device)
    const wantsWeights = boolean(where, 'needs.weights', needs.weights ?? true)
    const wantsTable = boolean(where, 'needs.table', needs.table ?? true)
    const [g, t, i, w] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle]
    const [dWeights] = outputs(where, o.out, device, 'dWeights')
    const r = native.embeddingBagBackward(dWeights, g, t, i, w, offsets, scales, wantsWeights, wantsTable)
    return {
      ...(r.dWeights && { dWeights: wrap(device, r.dWeights, o.out?.dWeights) }),
      ...(r.dTable && { dTable: new SparseGrad(device, r.dTable) }),
    }
  } finally {
    temporary?.dispose()
  }
}

/** `y = x W^T + bias`.
 * @param x `[R, in]`, weight `[out, in]` of one dtype: float32, float16 or bfloat16; bias `[out]` float32
 * @returns `[R, out]` float32; sums are float32, too
 * @throws ERR_SHAPE, ERR_DTYPE */
export function linear(x: Tensor, weight: Tensor, bias?: Tensor, given?: OutOptions): Tensor {
  options('linear', given, ['out'])
  const { list, device, out } = prepare('linear', { x, weight }, given)
  return wrap(device, native.linear(out, list[0]!, list[1]!, optionalHandle('linear', 'bias', bias, device)), given?.out)
}

/** Options of the operation of that name. */
export interface LinearBackwardOptions extends Outputs<'dx'> {
  /** Which gradients to make; default all three. */
  needs?: { x?: boolean; weight?: boolean; bias?: boolean }
  /** Tensors the parameters' gradients are added to, instead of new ones. */
  into?: { weight?: Tensor; bias?: Tensor }
}

/** Gradients of {@link linear}, float32: `dx = dy W`, `dWeight = dy^T x`, `dBias` = the sum of the rows of dy.
 * @throws ERR_SHAPE, ERR_DTYPE */
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given?: LinearBackwardOptions & { needs?: { x?: true; weight?: true; bias?: true } },
): { dx: Tensor; dWeight: Tensor; dBias: Tensor }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given: LinearBackwardOptions,
): { dx?: Tensor; dWeight?: Tensor; dBias?: Tensor }
export function linearBackward(
  dy: Tensor,
  x: Tensor,
  weight: Tensor,
  given?: LinearBackwardOptions,
): { dx?: Tensor; dWeight?: Tensor; dBias?: Tensor } {
  const where = 'linearBackward'
  const o = options(where, given, ['needs', 'into', 'out'])
  const needs = options(where, o.needs, ['x', 'weight', 'bias'])
  const into = options(where, o.into, ['weight', 'bias'])
  const { list, device } = prepare(where, { dy, x, weight })
  const [outX] = outputs(where, o.out, device, 'dx')
  const r = native.linearBackward(
    outX,
    list[0]!,
    list[1]!,
    list[2]!,
    boolean(where, 'needs.x', needs.x ?? true),
    boolean(where, 'needs.weight', needs.weight ?? true),
    boolean(where, 'needs.bias', needs.bias ?? true),
    optionalHandle(where, 'into.weight', into.weight, device),
    optionalHandle(where, 'into.bias', into.bias, device),
  )
  return {
    ...(r.dx && { dx: wrap(device, r.dx, o.out?.dx) }),
    ...(r.dWeight && { dWeight: wrap(device, r.dWeight, into.weight) }),
    ...(r.dBias && { dBias: wrap(device, r.dBias, into.bias) }),
  }
}

/** The Memory+ gate: `z = y * silu(a)`, `silu(a) = a * sigmoid(a)`. @param y `[R, V]`, a `[R, V]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function siluGate(y: Tensor, a: Tensor, given?: OutOptions): Tensor {
  options('siluGate', given, ['out'])
  const { list, device, out } = prepare('siluGate', { y, a }, given)
  return wrap(device, native.siluGate(out, list[0]!, list[1]!), given?.out)
}

/** Gradients of {@link siluGate}, each `[R, V]`. @throws ERR_SHAPE, ERR_DTYPE */
export function siluGateBackward(dz: Tensor, y: Tensor, a: Tensor, given?: Outputs<'dy' | 'da'>): { dy: Tensor; da: Tensor } {
  const where = 'siluGateBackward'
  const { out } = options(where, given, ['out'])
  const { list, device } = prepare(where, { dz, y, a })
  const [dy, da] = outputs(where, out, device, 'dy', 'da')
  const r = native.siluGateBackward(dy, da, list[0]!, list[1]!, list[2]!)
  return { dy: wrap(device, r.dy, out?.dy), da: wrap(device, r.da, out?.da) }
}

/** The output gate: `out[r, :] = y[r, :] * sigmoid(g[r])`. @param y `[R, V]`, g `[R, 1]` float32
 * @throws ERR_SHAPE, ERR_DTYPE */
export function sigmoidGate(y: Tensor, g: Tensor, given?: OutOptions): Tensor {
  options('sigmoidGate', given, ['out'])
  const { list, device, out } = prepare('sigmoidGate', { y, g }, given)
  return wrap(device, native.sigmoidGate(out, list[0]!, list[1]!), given?.out)
}

/** Gradients of {@link sigmoidGate}: dy `[R, V]`, dg `[R, 1]`. @throws ERR_SHAPE, ERR_DTYPE */
export function sigmoidGateBackward(dOut: Tensor, y: Tensor, g: Tensor, given?: Outputs<'dy' | 'dg'>): { dy: Tensor; dg: Tensor } {
  const where = 'sigmoidGateBackward'
  const { out } = options(where, given, ['out'])
  const { list, device } = prepare(where, { dOut, y, g })
  const [dy, dg] = outputs(where, out, device, 'dy', 'dg')
  const r = native.sigmoidGateBackward(dy, dg, list[0]!, list[1]!, list[2]!)
  return { dy: wrap(device, r.dy, out?.dy), dg: wrap(device, r.dg, out?.dg) }
}

/** Options of the operation of that name. */
export interface RmsNormOptions extends OutOptions {
  /** Default 1e-6. */
  eps?: number
}

/** RMS norm over the last axis (Zhang and Sennrich 2019): `y = x / sqrt(mean(x^2) + eps) * gain`.
 * @param x `[..., n]` float32, gain `[n]` (left out: ones)
 * @throws ERR_SHAPE, ERR_DTYPE */
export function rmsNorm(x: Tensor, gain?: Tensor, given?: RmsNormOptions): Tensor {
  const o = options('rmsNorm', given, ['eps', 'out'])
  const { list, device, out } = prepare('rmsNorm', { x }, o)
  const eps = number('rmsNorm', 'eps', o.eps ?? 1e-6, 0)
  return wrap(device, native.rmsNorm(out, list[0]!, optionalHandle('rmsNorm', 'gain', gain, device), eps), o.out)
}

/** Gradients of {@link rmsNorm}; `dGain` is there when there is a gain. `into` is added to instead of a new tensor. dx `[..., n]`, dGain `[n]`.
 * @throws ERR_SHAPE, ERR_DTYPE */
export function rmsNormBackward(
  dy: Tensor,
  x: Tensor,
  gain?: Tensor,
  given?: { eps?: number; into?: { gain?: Tensor } } & Outputs<'dx'>,
): { dx: Tensor; dGain?: Tensor } {
  const where = 'rmsNormBackward'
  const o = options(where, given, ['eps', 'into', 'out'])
  const into = options(where, o.into, ['gain'])
  const { list, device } = prepare(where, { dy, x })
  const [outX] = outputs(where, o.out, device, 'dx')
  const r = native.rmsNormBackward(
    outX,
    list[0]!,
    list[1]!,
    optionalHandle(where, 'gain', gain, device),
    number(where, 'eps', o.eps ?? 1e-6, 0),
    optionalHandle(where, 'into.gain', into.gain, device),
  )
  return { dx: wrap(device, r.dx, o.out?.dx), ...(r.dGain && { dGain: wrap(device, r.dGain, into.gain) }) }
}

/** Softmax over the last axis. @param x `[..., n]` float32 @throws ERR_SHAPE, ERR_DTYPE */
export function softmax(x: Tensor, given?: OutOptions): Tensor {
  options('softmax', given, ['out'])
  const { list, device, out } = prepare('softmax', { x }, given)
  return wrap(device, native.softmax(out, list[0]!), given?.out)
}

/** Gradient of {@link softmax} from its output y `[..., n]`: `dx = y * (dy - sum(y * dy))`. @throws ERR_SHAPE, ERR_DTYPE */
export function softmaxBackward(dy: Tensor, y: Tensor, given?: OutOptions): Tensor {
  options('softmaxBackward', given, ['out'])
  const { list, device, out } = prepare('softmaxBackward', { dy, y }, given)
  return wrap(device, native.softmaxBackward(out, list[0]!, list[1]!), given?.out)
}

function activation(name: Activation) {
  return (x: Tensor, given?: OutOptions): Tensor => {
    options(name, given, ['out'])
    const { list, device, out } = prepare(name, { x }, given)
    return wrap(device, native.activate(out, list[0]!, activations.indexOf(name)), given?.out)
  }
}

function activationBackward(name: Activation) {
  const where = `${name}Backward`
  return (dy: Tensor, x: Tensor, given?: OutOptions): Tensor => {
    options(where, given, ['out'])
    const { list, device, out } = prepare(where, { dy, x }, given)
    return wrap(device, native.activateBackward(out, list[0]!, list[1]!, activations.indexOf(name)), given?.out)
  }
}

/** `max(x, 0)`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const relu: (x: Tensor, given?: OutOptions) => Tensor = activation('relu')
/** `x/2 (1 + erf(x / sqrt 2))`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const gelu: (x: Tensor, given?: OutOptions) => Tensor = activation('gelu')
/** `x * sigmoid(x)`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const silu: (x: Tensor, given?: OutOptions) => Tensor = activation('silu')
/** `1 / (1 + exp(-x))`, elementwise, float32. @throws ERR_SHAPE, ERR_DTYPE */
export const sigmoid: (x: Tensor, given?: OutOptions) => Tensor = activation('sigmoid')
/** `dy * relu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const reluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor = activationBackward('relu')
/** `dy * gelu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const geluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor = activationBackward('gelu')
/** `dy * silu'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const siluBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor = activationBackward('silu')
/** `dy * sigmoid'(x)`. @throws ERR_SHAPE, ERR_DTYPE */
export const sigmoidBackward: (dy: Tensor, x: Tensor, given?: OutOptions) => Tensor = activationBackward('sigmoid')

/** Options of the operation of that name. */
export interface AddOptions extends OutOptions {
  /** Factor of x, default 1. */
  alpha?: number
  /** Factor of y, default 1. */
  beta?: number
}

/** `alpha * x + beta * y`, elementwise, float32 of one shape. `out` may be x or y. @throws ERR_SHAPE, ERR_DTYPE */
export function add(x: Tensor, y: Tensor, given?: AddOptions): Tensor {
  const o = options('add', given, ['alpha', 'beta', 'out'])
  const { list, device, out } = prepare('add', { x, y }, o)
  const alpha = number('add', 'alpha', o.alpha ?? 1)
  const beta = number('add', 'beta', o.beta ?? 1)
  return wrap(device, native.add(out, list[0]!, list[1]!, alpha, beta), o.out)
}

/** Cross-entropy of each token: `logsumexp(logits[t, :]) - logits[t, targets[t]]`. Target -1 is ignored (loss 0).
 * @param logits `[T, C]` float32, targets `[T]` int32
 * @returns `[T]` float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function crossEntropy(logits: Tensor, targets: Tensor, given?: OutOptions): Tensor {
  options('crossEntropy', given, ['out'])
  const { list, device, out } = prepare('crossEntropy', { logits, targets }, given)
  return wrap(device, native.crossEntropy(out, list[0]!, list[1]!), given?.out)
}

/** Gradient of {@link crossEntropy}: `dLoss[t] * (softmax(logits[t, :]) - onehot(targets[t]))`. @param dLoss `[T]`
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function crossEntropyBackward(dLoss: Tensor, logits: Tensor, targets: Tensor, given?: OutOptions): Tensor {
  const where = 'crossEntropyBackward'
  options(where, given, ['out'])
  const { list, device, out } = prepare(where, { dLoss, logits, targets }, given)
  return wrap(device, native.crossEntropyBackward(out, list[0]!, list[1]!, list[2]!), given?.out)
}

/** Options of {@link attention}. */
export interface AttentionOptions {
  /** Factor of the scores. Default `1 / sqrt(d)`. */
  scale?: number
  /** Each time sees itself and those before it alone. Default true. */
  causal?: boolean
}

function attentionOptions(where: string, given: (AttentionOptions & Outputs<string>) | undefined, q: Tensor) {
  const o = options(where, given, ['scale', 'causal', 'out'])
  handles(where, { q })
  const scale = number(where, 'scale', o.scale ?? 1 / Math.sqrt(q.shape.at(-1) || 1))
  return { scale, causal: boolean(where, 'causal', o.causal ?? true), out: o.out }
}

/** Scaled dot-product attention (Vaswani et al. 2017): `y[t] = sum_u softmax_u(scale <q[t], k[u]>) v[u]` for each batch and head.
 * @param q `[B, T, H, d]` float32, d at most 256; k and v alike
 * @returns y `[B, T, H, d]`, and lse `[B, H, T]`, the logarithms of the softmax's sums, for the backward
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE */
export function attention(q: Tensor, k: Tensor, v: Tensor, given?: AttentionOptions & Outputs<'y' | 'lse'>): { y: Tensor; lse: Tensor } {
  const { scale, causal, out } = attentionOptions('attention', given, q)
  const { list, device } = prepare('attention', { q, k, v })
  const [y, lse] = outputs('attention', out, device, 'y', 'lse')
  const r = native.attention(y, lse, list[0]!, list[1]!, list[2]!, scale, causal)
  return { y: wrap(device, r.y, out?.['y']), lse: wrap(device, r.lse, out?.['lse']) }
}

/** Gradients of {@link attention}, each `[B, T, H, d]`, with the same options. @param saved its inputs and what it gave
 * @throws ERR_SHAPE, ERR_DTYPE, ERR_OPTION, ERR_VALUE */
export function attentionBackward(
  dy: Tensor,
  saved: { q: Tensor; k: Tensor; v: Tensor; y: Tensor; lse: Tensor },
  given?: AttentionOptions & Outputs<'dq' | 'dk' | 'dv'>,
): { dq: Tensor; dk: Tensor; dv: Tensor } {
  const where = 'attentionBackward'
  const { q, k, v, y, lse } = options(where, saved, ['q', 'k', 'v', 'y', 'lse']) as typeof saved
  const { scale, causal, out } = attentionOptions(where, given, q)
  const { list, device } = prepare(where, { dy, y, lse, q, k, v })
  const [g, yh, z, qh, kh, vh] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle]
  const [dq, dk, dv] = outputs(where, out, device, 'dq', 'dk', 'dv')
  const r = native.attentionBackward(dq, dk, dv, g, yh, z, qh, kh, vh, scale, causal)
  return { dq: wrap(device, r.dq, out?.['dq']), dk: wrap(device, r.dk, out?.['dk']), dv: wrap(device, r.dv, out?.['dv']) }
}

/** Options of {@link peer} and {@link peerBackward}. */
export interface PeerOptions {
  /** Default 'gelu'. */
  activation?: Activation
}

/** Experts of one hidden unit (PEER, He 2024): `output[t] = sum_l weights[t, l] * f(u[t, l]) * up[indices[t, l]]`, `u[t, l] = <x[t], down[indices[t, l]]>`.
 * @param x `[T, C]`, down `[N, C]`, up `[N, Co]`, indices `[T, L]` int32, weights `[T, L]`, float32
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function peer(
  x: Tensor,
  down: Tensor,
  up: Tensor,
  indices: Tensor,
  weights: Tensor,
  given?: PeerOptions & Outputs<'output' | 'u'>,
): { output: Tensor; u: Tensor } {
  const o = options('peer', given, ['activation', 'out'])
  const { list, device } = prepare('peer', { x, down, up, indices, weights })
  const [xh, d, p, i, w] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle]
  const [output, u] = outputs('peer', o.out, device, 'output', 'u')
  const r = native.peer(output, u, xh, d, p, i, w, activationCode('peer', o.activation ?? 'gelu'))
  return { output: wrap(device, r.output, o.out?.output), u: wrap(device, r.u, o.out?.u) }
}

/** Gradients of {@link peer}: dx `[T, C]`, dWeights `[T, L]`, and the two tables' touched rows. @param saved the inputs of `peer` and the `u` it gave
 * @throws ERR_SHAPE, ERR_DTYPE; ERR_INDEX_RANGE at the next wait */
export function peerBackward(
  dOut: Tensor,
  saved: { x: Tensor; down: Tensor; up: Tensor; indices: Tensor; weights: Tensor; u: Tensor },
  given?: PeerOptions & Outputs<'dx' | 'dWeights'>,
): { dx: Tensor; dWeights: Tensor; dDown: SparseGrad; dUp: SparseGrad } {
  const where = 'peerBackward'
  const o = options(where, given, ['activation', 'out'])
  const { x, down, up, indices, weights, u } = options(where, saved, ['x', 'down', 'up', 'indices', 'weights', 'u']) as typeof saved
  const { list, device } = prepare(where, { dOut, x, down, up, indices, weights, u })
  const [g, xh, d, p, i, w, uh] = list as [TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle, TensorHandle]
  const [outX, outWeights] = outputs(where, o.out, device, 'dx', 'dWeights')
  const r = native.peerBackward(outX, outWeights, g, xh, d, p, i, w, uh, activationCode(where, o.activation ?? 'gelu'))
  return {
    dx: wrap(device, r.dx, o.out?.dx),
    dWeights: wrap(device, r.dWeights, o.out?.dWeights),
    dDown: new SparseGrad(device, r.dDown),
    dUp: new SparseGrad(device, r.dUp),
  }
}

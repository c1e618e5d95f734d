// A decoder in float64, from its options and its state dict: rows of [batch * time] tokens, one
// part after the other as the papers say them.

import type { BlockConfig, FeedForwardConfig, MemoryConfig } from '../../lib/nn/block-config.js'
import type { TransformerConfig } from '../../lib/nn/transformer-config.js'
import { activations, silu } from './activation.js'
import { crossEntropy } from './cross-entropy.js'
import { embeddingBag, fixedOffsets } from './embedding-bag.js'
import { linear } from './linear.js'
import { peer } from './peer.js'
import { lookup } from './product-key-lookup.js'
import { halfScores } from './product-key-scores.js'
import { rmsNorm } from './rms-norm.js'
import { softmax } from './softmax.js'
import { topK } from './topk.js'

type Numbers = ArrayLike<number>
/** The parameters by name. */
export type State = Readonly<Record<string, Numbers>>

/** What a model computes of a batch. */
export interface Batch {
  tokens: Numbers
  batch: number
}

function parameter(state: State, name: string): Numbers {
  const found = state[name]
  if (!found) throw new Error(`the reference has no "${name}"`)
  return found
}

function project(state: State, name: string, x: Numbers, inputs: number): Float64Array {
  const weight = parameter(state, `${name}.weight`)
  const outputs = weight.length / inputs
  return linear(x, weight, state[`${name}.bias`], x.length / inputs, inputs, outputs)
}

function add(x: Numbers, y: Numbers): Float64Array {
  return Float64Array.from(x, (v, i) => v + y[i]!)
}

/** Turns the pairs (i, i + d/2) of each head of `d` by position * theta^(-2i/d). */
function rope(x: Float64Array, time: number, heads: number, d: number, theta: number): void {
  for (let head = 0; head < x.length / d; head++) {
    const position = Math.floor(head / heads) % time
    for (let i = 0; i < d / 2; i++) {
      const angle = position * theta ** ((-2 * i) / d)
      const [a, b] = [x[head * d + i]!, x[head * d + i + d / 2]!]
      x[head * d + i] = a * Math.cos(angle) - b * Math.sin(angle)
      x[head * d + i + d / 2] = b * Math.cos(angle) + a * Math.sin(angle)
    }
  }
}

function attention(state: State, name: string, c: TransformerConfig, x: Numbers, batch: number) {
  const { dim, heads, kvHeads, headDim: d } = c
  const time = x.length / dim / batch
  const q = project(state, `${name}.q_proj`, x, dim)
  const k = project(state, `${name}.k_proj`, x, dim)
  const v = project(state, `${name}.v_proj`, x, dim)
  if (c.rope) rope(q, time, heads, d, c.rope.theta)
  if (c.rope) rope(k, time, kvHeads, d, c.rope.theta)
  const y = new Float64Array(q.length)
  for (let b = 0; b < batch; b++)
    for (let t = 0; t < time; t++)
      for (let h = 0; h < heads; h++) {
        const own = ((b * time + t) * heads + h) * d
        const key = (u: number) =>
          ((b * time + u) * kvHeads + Math.floor(h / (heads / kvHeads))) * d
        const scores = Array.from({ length: t + 1 }, (_, u) => {
          let sum = 0
          for (let i = 0; i < d; i++) sum += q[own + i]! * k[key(u) + i]!
          return sum / Math.sqrt(d)
        })
        for (const [u, p] of softmax(scores, t + 1).entries())
          for (let i = 0; i < d; i++) y[own + i]! += p * v[key(u) + i]!
      }
  return project(state, `${name}.o_proj`, y, heads * d)
}

interface Lookups {
  nKeys: number
  heads: number
  knn: number
  keyDim: number
}

function find(state: State, name: string, x: Numbers, dim: number, c: Lookups) {
  const T = x.length / dim
  const shape = { T, H: c.heads, n: c.nKeys, d: c.keyDim / 2, k: c.knn }
  const query = project(state, `${name}.query_proj.query_mlps.0`, x, dim)
  return lookup(halfScores(query, parameter(state, `${name}.keys`), shape), shape, 'softmax')
}

function memory(state: State, name: string, x: Numbers, dim: number, c: MemoryConfig) {
  const T = x.length / dim
  const { indices, weights } = find(state, name, x, dim, c)
  // A shared table stands under the first layer that reads it.
  const shared = Object.keys(state).find((key) => key.endsWith('memory.values.weight'))
  const table = state[`${name}.values.weight`] ?? parameter(state, shared ?? '')
  const offsets = fixedOffsets(T, c.heads * c.knn)
  let y: Float64Array = embeddingBag(table, c.valueDim, { indices, weights, offsets })
  if (c.gate === 'silu') {
    const gate = project(state, `${name}.swilu_projection`, x, dim)
    y = y.map((v, i) => v * silu(gate[i]!))
  }
  if (state[`${name}.value_proj.weight`]) y = project(state, `${name}.value_proj`, y, c.valueDim)
  if (!c.outputGate) return y
  const open = project(state, `${name}.gating`, x, dim)
  return y.map((v, i) => v / (1 + Math.exp(-open[Math.floor(i / dim)]!)))
}

function expert(state: State, name: string, x: Numbers, dim: number, hiddenDim: number) {
  const h = project(state, `${name}.w1`, x, dim).map(activations.gelu.f)
  return project(state, `${name}.w2`, h, hiddenDim)
}

type Experts = Extract<FeedForwardConfig, { kind: 'moe' }>

/** The output, and the load-balancing loss with its weight. */
function experts(state: State, name: string, x: Numbers, dim: number, c: Experts) {
  const { experts: E, routing, expertsPerToken, hiddenDim } = c
  const T = x.length / dim
  const p = softmax(project(state, `${name}.router`, x, dim), E)
  const chosen: [token: number, e: number][] = []
  if (routing === 'token') {
    for (let t = 0; t < T; t++)
      for (const e of topK(p.subarray(t * E, (t + 1) * E), expertsPerToken)) chosen.push([t, e])
  } else {
    const perExpert = Math.max(1, Math.min(T, Math.ceil((expertsPerToken * T) / E)))
    for (let e = 0; e < E; e++) {
      const column = Array.from({ length: T }, (_, t) => p[t * E + e]!)
      for (const t of topK(column, perExpert)) chosen.push([t, e])
    }
  }
  const y = new Float64Array(x.length)
  for (const [t, e] of chosen) {
    const row = Array.from({ length: dim }, (_, i) => x[t * dim + i]!)
    const output = expert(state, `${name}.experts.${e}`, row, dim, hiddenDim)
    for (let i = 0; i < dim; i++) y[t * dim + i]! += p[t * E + e]! * output[i]!
  }
  if (routing === 'expert') return { y, balance: 0 }
  let balance = 0
  for (let e = 0; e < E; e++) {
    const share = chosen.filter(([, to]) => to === e).length / chosen.length
    let mean = 0
    for (let t = 0; t < T; t++) mean += p[t * E + e]! / T
    balance += c.balance * E * share * mean
  }
  return { y, balance }
}

function feedForward(state: State, name: string, x: Numbers, dim: number, c: FeedForwardConfig) {
  switch (c.kind) {
    case 'none':
      return { y: new Float64Array(x.length), balance: 0 }
    case 'gelu':
      return { y: expert(state, name, x, dim, c.hiddenDim), balance: 0 }
    case 'moe':
      return experts(state, name, x, dim, c)
    case 'peer': {
      const T = x.length / dim
      const { indices, weights } = find(state, name, x, dim, c)
      const shape = { T, L: c.heads * c.knn, C: dim, O: dim }
      const [down, up] = [`${name}.values_u.weight`, `${name}.values_v.weight`]
      const tables = [parameter(state, down), parameter(state, up)] as const
      return { y: peer(x, ...tables, indices, weights, shape, c.activation).out, balance: 0 }
    }
    case 'swiglu': {
      const gate = project(state, `${name}.gate_proj`, x, dim)
      const h = project(state, `${name}.up_proj`, x, dim).map((v, i) => v * silu(gate[i]!))
      return { y: project(state, `${name}.down_proj`, h, c.hiddenDim), balance: 0 }
    }
  }
}

function block(
  state: State,
  name: string,
  c: TransformerConfig,
  { feedForward: ff, memory: m }: BlockConfig,
  x: Numbers,
  batch: number,
) {
  const norm = (part: string, rows: Numbers) =>
    rmsNorm(rows, parameter(state, `${name}.${part}.weight`), c.dim, c.normEps)
  const h = add(x, attention(state, `${name}.self_attn`, c, norm('input_layernorm', x), batch))
  if (ff.kind === 'none' && !m) return { y: h, balance: 0 }
  const normed = norm('post_attention_layernorm', h)
  const { y, balance } = feedForward(state, `${name}.mlp`, normed, c.dim, ff)
  const read = m ? memory(state, `${name}.memory`, normed, c.dim, m) : new Float64Array(y.length)
  return { y: add(h, add(y, read)), balance }
}

/** Logits `[batch * time, vocabSize]`, and the load-balancing losses. */
export function logits(state: State, c: TransformerConfig, { tokens, batch }: Batch) {
  const rows = parameter(state, 'model.embed_tokens.weight')
  let x: Float64Array = Float64Array.from({ length: tokens.length * c.dim }, (_, i) => {
    const token = tokens[Math.floor(i / c.dim)]!
    return token < 0 ? 0 : rows[token * c.dim + (i % c.dim)]!
  })
  let balance = 0
  for (const [layer, config] of c.blocks.entries()) {
    const result = block(state, `model.layers.${layer}`, c, config, x, batch)
    x = result.y
    balance += result.balance
  }
  const normed = rmsNorm(x, parameter(state, 'model.norm.weight'), c.dim, c.normEps)
  const head = c.tieEmbeddings ? 'model.embed_tokens' : 'lm_head'
  return { logits: project(state, head, normed, c.dim), balance }
}

/** Mean cross-entropy over the targets from 0, and the load-balancing losses. */
export function loss(state: State, c: TransformerConfig, batch: Batch, targets: Numbers): number {
  const { logits: scores, balance } = logits(state, c, batch)
  const kept = Array.from(targets, (target) => (target < 0 ? -1 : target))
  const losses = crossEntropy(scores, kept, c.vocabSize)
  const count = kept.filter((target) => target >= 0).length
  return losses.reduce((sum, v) => sum + v, 0) / count + balance
}

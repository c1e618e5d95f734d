// A memory layer and its gradients in the interpreter: the formulas of lib/memory-layer.ts over the
// float64 operations of test/reference.

import {
  embeddingBag,
  embeddingBagBackward,
  fixedOffsets,
} from '../../../reference/embedding-bag.js'
import { linear, linearBackward } from '../../../reference/linear.js'
import { lookup, lookupBackward } from '../../../reference/product-key-lookup.js'
import { halfScores } from '../../../reference/product-key-scores.js'
import { rmsNorm, rmsNormBackward } from '../../../reference/rms-norm.js'
import { sigmoidGate, sigmoidGateBackward } from '../../../reference/sigmoid-gate.js'
import { siluGate, siluGateBackward } from '../../../reference/silu-gate.js'
import type { Noise, Samples } from './samples.js'
import type { ModelTable } from './table.js'
import type { ModelTensor } from './tensor.js'

export interface MemoryShape {
  C: number
  H: number
  k: number
  n: number
  /** Half-key width. */
  d: number
}

/** A dense parameter: its values, and what backward adds to. */
export interface ModelParameter {
  value: ModelTensor
  grad: ModelTensor
}

type Name = 'x' | 'raw' | 'query' | 'indices' | 'scores' | 'weights' | 'y' | 'a' | 'z' | 'out' | 'g'

/** What a forward saves. */
export interface ModelContext {
  T: number
  faults: number
  saved: Partial<Record<Name, Samples>>
}

const query = 'query_proj.query_mlps.0'
const eps = 1e-6

export class ModelMemory {
  constructor(
    readonly shape: MemoryShape,
    readonly parameters: ReadonlyMap<string, ModelParameter>,
    readonly table: ModelTable,
    readonly noise: Noise,
  ) {}

  #value(name: string): Samples | undefined {
    return this.parameters.get(name)?.value.samples
  }

  /** The faults of the parameters and of the rows. */
  get faults(): number {
    let bits = this.table.weight.faults
    for (const { value } of this.parameters.values()) bits |= value.faults
    return bits
  }

  #linear(x: Samples, T: number, name: string): Samples {
    const weight = this.#value(`${name}.weight`)!
    const bias = this.#value(`${name}.bias`) ?? []
    const I = x[0]!.length / T
    const O = weight[0]!.length / I
    return this.noise.map([x, weight, ...(bias.length ? [bias as Samples] : [])], (x, w, b) =>
      linear(x!, w!, b, T, I, O),
    )
  }

  forward(x: Samples, T: number, faults: number): { output: Samples; context: ModelContext } {
    const all = faults | this.faults
    const context: ModelContext = { T, faults: all, saved: {} }
    if (all) return { output: [], context }
    const { H, k, n, d } = this.shape
    const raw = this.#linear(x, T, query)
    const gain = this.#value('query_norm.weight')
    const q = gain ? this.noise.map([raw, gain], (r, g) => rmsNorm(r!, g, 2 * d, eps)) : raw
    const keys = this.#value('keys')!
    const [indices, scores, weights] = this.noise.mapAll([q, keys], (q, keys) => {
      const found = lookup(halfScores(q!, keys!, { T, H, n, d, k }), { T, H, n, d, k }, 'softmax')
      return [Float64Array.from(found.indices), found.scores, found.weights]
    })
    const whole = indices!.map((i) => i.map(Math.round)) // mapAll perturbs
    const V = this.table.dim
    const y = this.noise.map([this.table.weight.samples, whole, weights!], (t, i, w) =>
      embeddingBag(t!, V, {
        indices: i!.map(Math.round),
        weights: w!,
        offsets: fixedOffsets(T, H * k),
      }),
    )
    const saved: ModelContext['saved'] = { x, raw, query: q, indices: whole, scores, weights, y }
    let output = y
    if (this.parameters.has('swilu_projection.weight')) {
      const a = this.#linear(x, T, 'swilu_projection')
      saved.a = a
      saved.z = this.noise.map([y, a], (y, a) => siluGate(y!, a!))
      output = saved.z
    }
    if (this.parameters.has('value_proj.weight')) output = this.#linear(output, T, 'value_proj')
    if (this.parameters.has('gating.weight')) {
      const g = this.#linear(x, T, 'gating')
      const width = output[0]!.length / T
      saved.out = output
      saved.g = g
      output = this.noise.map([output, g], (o, g) => sigmoidGate(o!, g!, width))
    }
    context.saved = saved
    return { output, context }
  }

  /** Adds to the gradients of a linear map's parameters; returns that of its input. */
  #linearBackward(dy: Samples, x: Samples, T: number, name: string): Samples {
    const weight = this.parameters.get(`${name}.weight`)!
    const bias = this.parameters.get(`${name}.bias`)
    const I = x[0]!.length / T
    const O = weight.value.size / I
    const [dx, dWeight, dBias] = this.noise.mapAll([dy, x, weight.value.samples], (dy, x, w) => {
      const g = linearBackward(dy!, x!, w!, T, I, O)
      return [g.dx, g.dWeight, g.dBias]
    })
    this.#accumulate(weight, dWeight!)
    if (bias) this.#accumulate(bias, dBias!)
    return dx!
  }

  #accumulate(p: ModelParameter, more: Samples): void {
    const sum = this.noise.map([p.grad.samples, more], (a, b) => a!.map((v, i) => v + b![i]!))
    p.grad.update(sum, 0, this.noise)
  }

  /** Returns dx; with faults nothing is changed and dx is void. */
  backward(context: ModelContext, dy: Samples, faults: number): { dx: Samples; faults: number } {
    const all = faults | context.faults | this.faults
    if (all) return { dx: [], faults: all }
    const { T, saved } = context
    const { x, raw, query: q, indices, scores, weights, y, a, z, out, g } = saved
    const { H, k, n, d } = this.shape
    const parts: Samples[] = []
    let gradient = dy
    if (out && g) {
      const width = out[0]!.length / T
      const [dOut, dg] = this.noise.mapAll([gradient, out, g], (dy, out, g) => {
        const b = sigmoidGateBackward(dy!, out!, g!, width)
        return [b.dy, b.dg]
      })
      parts.push(this.#linearBackward(dg!, x!, T, 'gating'))
      gradient = dOut!
    }
    if (this.parameters.has('value_proj.weight'))
      gradient = this.#linearBackward(gradient, z ?? y!, T, 'value_proj')
    if (a) {
      const [dValues, da] = this.noise.mapAll([gradient, y!, a], (dz, y, a) => {
        const b = siluGateBackward(dz!, y!, a!)
        return [b.dy, b.da]
      })
      parts.push(this.#linearBackward(da!, x!, T, 'swilu_projection'))
      gradient = dValues!
    }
    const V = this.table.dim
    const bags = { indices: indices!, weights: weights!, offsets: fixedOffsets(T, H * k) }
    const dWeights = this.noise.map(
      [gradient, this.table.weight.samples, indices!, weights!],
      (dy, t, i, w) =>
        embeddingBagBackward(dy!, t!, V, { ...bags, indices: i!.map(Math.round), weights: w! })
          .dWeights,
    )
    const inputs = [q!, this.parameters.get('keys')!.value.samples, indices!, scores!, weights!]
    const [dQuery, dKeys] = this.noise.mapAll([...inputs, dWeights], (q, keys, i, s, w, dw) => {
      const found = { indices: i!.map(Math.round), scores: s!, weights: w! }
      const b = lookupBackward(q!, keys!, { T, H, n, d, k }, 'softmax', found, dw!)
      return [b.dQuery, b.dKeys]
    })
    this.#accumulate(this.parameters.get('keys')!, dKeys!)
    let dRaw = dQuery!
    const gain = this.parameters.get('query_norm.weight')
    if (gain) {
      const [dr, dGain] = this.noise.mapAll([dRaw, raw!, gain.value.samples], (dy, x, gain) => {
        const b = rmsNormBackward(dy!, x!, gain!, 2 * d, eps)
        return [b.dx, b.dGain]
      })
      this.#accumulate(gain, dGain!)
      dRaw = dr!
    }
    parts.push(this.#linearBackward(dRaw, x!, T, query))
    this.table.push({ T, indices: indices!, weights: weights!, dy: gradient }, 0)
    const dx = this.noise.map(parts, (...all) =>
      all[0]!.map((_, i) => all.reduce((s, p) => s + p[i]!, 0)),
    )
    return { dx, faults: 0 }
  }
}

// The layers of a program: two memory layers that share a table, an embedding and a linear map, and
// an optimizer of them all. Their first values are read from the device.

import {
  Adagrad,
  AdamW,
  type DType,
  MemoryLayer,
  type Optimizer,
  type Parameter,
  RowwiseAdagrad,
  Sgd,
  ValueTable,
} from '../../../lib/index.js'
import { Embedding, Linear } from '../../../lib/nn/index.js'
import { type ModelContext, ModelMemory, type ModelParameter } from './model/memory-layer.js'
import { ModelOptimizer, ruleNames } from './model/optimizer.js'
import { ModelTable } from './model/table.js'
import { ModelTensor } from './model/tensor.js'
import type { Pair, Picks, World } from './world.js'

/** A forward whose backward has not been called: its input, and how often that was written then. */
export interface OpenContext<Real> {
  real: Real
  model: ModelContext
  input: ModelTensor
  writes: number
}

/** A memory layer and its twin. */
export interface Memory {
  real: MemoryLayer
  model: ModelMemory
  contexts: OpenContext<ReturnType<MemoryLayer['forward']>['context']>[]
}

/** A read of the embedding whose backward has not been called. */
export interface OpenRead {
  real: ReturnType<Embedding['forward']>['context']
  tokens: Float64Array[]
  /** Of the tokens, as forward copied them. */
  faults: number
  /** A token that the embedding does not have: each use of the tokens finds it anew. */
  bad: number | undefined
}

export interface Layers {
  memories: readonly Memory[]
  table: { real: ValueTable; model: ModelTable }
  embedding: { real: Embedding; model: ModelTable; open: OpenRead[] }
  linear: { real: Linear; parameters: Map<string, ModelParameter> }
  optimizer: { real: Optimizer; model: ModelOptimizer }
  /** Every dense parameter with its twin, and the tables. */
  dense: { name: string; value: Pair; grad: Pair }[]
  parameters: readonly Parameter[]
}

async function twin(pair: {
  shape: readonly number[]
  dtype: DType
  data: Promise<ArrayLike<number>>
}) {
  return ModelTensor.make(pair.shape, pair.dtype).setExactly(await pair.data)
}

export async function makeLayers(world: World, picks: Picks): Promise<Layers> {
  const { device, noise, profile } = world
  const { C, H, k, n, d, V, seed } = profile
  const dtype = picks.of(['float32', 'float32', 'bfloat16', 'float16'] as const)
  const values = new ValueTable(device, { slots: n * n, dim: V, dtype, init: { seed } })
  const weight = await twin({ shape: [n * n, V], dtype, data: values.weight.data() })
  const table = { real: values, model: new ModelTable(weight, noise) }
  const dense: Layers['dense'] = []
  const modelsOf = async (list: readonly Parameter[]) => {
    const models = new Map<string, ModelParameter>()
    for (const p of list) {
      if (p.kind === 'table') continue
      const { shape } = p.value
      const value = await twin({ shape, dtype: 'float32', data: p.value.data() })
      const grad = ModelTensor.make(shape, 'float32')
      models.set(p.name, { value, grad })
      dense.push({
        name: p.name,
        value: { real: p.value, model: value },
        grad: { real: p.grad, model: grad },
      })
    }
    return models
  }
  const memories: Memory[] = []
  for (const index of [0, 1]) {
    const real = new MemoryLayer(device, {
      inputDim: C,
      heads: H,
      knn: k,
      nKeys: n,
      keyDim: 2 * d,
      values,
      gate: picks.of(['silu', 'none'] as const),
      outputGate: picks.below(2) === 1,
      queryNorm: picks.of(['none', 'rms'] as const),
      seed: seed + index,
    })
    const parameters = await modelsOf(real.parameters())
    const model = new ModelMemory({ C, H, k, n, d }, parameters, table.model, noise)
    memories.push({ real, model, contexts: [] })
  }
  const real = new Embedding(device, { count: 5, dim: C, seed })
  const rows = await twin({ shape: [5, C], dtype: 'float32', data: real.table.weight.data() })
  const embedding = { real, model: new ModelTable(rows, noise), open: [] }
  const linear = new Linear(device, { inputDim: C, outputDim: C, seed })
  const linearParameters = await modelsOf(linear.parameters())

  const parameters = [memories[0]!.real, memories[1]!.real, real, linear].flatMap((l) =>
    l.parameters(),
  )
  const rule = picks.of(ruleNames)
  const hyper = { lr: 0.05, weightDecay: 0.01, eps: 1e-3 }
  const make = { Sgd, Adagrad, RowwiseAdagrad, AdamW }[rule]
  // Sgd has no eps.
  const options = rule === 'Sgd' ? { lr: hyper.lr, weightDecay: hyper.weightDecay } : hyper
  const optimizer = {
    real: new (make as typeof AdamW)(parameters, options) as Optimizer,
    model: new ModelOptimizer(
      rule,
      hyper,
      dense.map((p) => ({ value: p.value.model, grad: p.grad.model })),
      [table.model, embedding.model],
      noise,
    ),
  }
  return {
    memories,
    table,
    embedding,
    linear: { real: linear, parameters: linearParameters },
    optimizer,
    dense,
    parameters,
  }
}

export function disposeLayers(layers: Layers): void {
  layers.optimizer.real.dispose()
  for (const { real, contexts } of layers.memories) {
    for (const { real: context } of contexts) context.dispose()
    real.dispose()
  }
  for (const { real } of layers.embedding.open) real.dispose()
  layers.embedding.real.dispose()
  layers.linear.real.dispose()
  layers.table.real.dispose()
}

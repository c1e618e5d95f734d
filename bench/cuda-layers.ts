// The cases of bench/cuda.ts that are whole memory layers, and the updates of their tables.

import {
  AdamW,
  type Device,
  MemoryLayer,
  type Optimizer,
  ops,
  RowwiseAdagrad,
  Sgd,
  type Tensor,
} from '../lib/index.js'
import {
  type Case,
  type Compute,
  chosen,
  computes,
  type Sizes,
  type Work,
  work,
} from './cuda-work.js'

/** A memory layer, x and dy, made and freed together. */
function trained(device: Device, sizes: Sizes, compute: Compute, tokens = sizes.tokens) {
  const { width, heads, knn, nKeys, half } = sizes
  const layer = new MemoryLayer(device, {
    inputDim: width,
    heads,
    knn,
    nKeys,
    keyDim: 2 * half,
    compute,
    seed: 1,
  })
  const [x, dy] = [3, 4].map((seed) => device.normal([tokens, width], { seed })) as [Tensor, Tensor]
  const dispose = () => {
    layer.dispose()
    for (const t of [x, dy]) t.dispose()
  }
  return { layer, x, dy, dispose }
}

export function layers({ tokens, width, heads, knn, nKeys, half }: Sizes): Case[] {
  const entries = tokens * heads * knn
  const bag = entries * (width * 4 + 8)
  const linear = 2 * tokens * width ** 2
  const query = 2 * tokens * width * heads * 2 * half
  const forward = 2 * linear + query + tokens * heads * 2 * nKeys * half * 2
  const infers = (compute: Compute, count?: number) => (device: Device, sizes: Sizes) => {
    const { layer, x, dispose } = trained(device, sizes, compute, count)
    const made = work([], () => ({ y: layer.infer(x) }))
    return {
      ...made,
      dispose: () => {
        made.dispose()
        dispose()
      },
    }
  }
  return computes.flatMap((compute): Case[] => {
    const common = { compute, operations: undefined, table: true, meanTolerance: chosen } as const
    return [
      {
        ...common,
        name: `a memory layer's forward, ${compute}`,
        bytes: bag,
        flops: forward,
        make: infers(compute),
      },
      {
        ...common,
        name: `forward, backward and step of row-wise Adagrad, ${compute}`,
        bytes: 3 * bag,
        flops: 3 * forward,
        make: (device, sizes) => step(device, sizes, compute, RowwiseAdagrad),
      },
      {
        ...common,
        name: `one token through it, ${compute}`,
        bytes: 0,
        flops: 0,
        make: infers(compute, 1),
      },
    ]
  })
}

type OptimizerClass = new (
  parameters: ReturnType<MemoryLayer['parameters']>,
  options: { lr: number },
) => Optimizer

/** A whole training step; compared: the gradient of the input, and what it changes the table by. */
function step(device: Device, sizes: Sizes, compute: Compute, rule: OptimizerClass): Work {
  const { layer, x, dy, dispose } = trained(device, sizes, compute)
  const optimizer = new rule(layer.parameters(), { lr: 1e-3 })
  const train = () => {
    const dx = layer.backward(layer.forward(x).context, dy)
    optimizer.step()
    optimizer.zeroGrad()
    return dx
  }
  return {
    run: () => train().dispose(),
    results: () => {
      const table = layer.values.weight
      const before = device.empty(table.shape)
      before.copyFrom(table)
      return { dx: train(), change: ops.sub(table, before) }
    },
    dispose: () => {
      optimizer.dispose()
      dispose()
    },
  }
}

/** The update of a table's touched rows, as wide as the layer; sort and update are timed. */
export function updates({ tokens, heads, knn, nKeys, width }: Sizes): Case[] {
  const entries = tokens * heads * knn
  const rows = nKeys ** 2 * (1 - Math.exp(-entries / nKeys ** 2)) // touched, if drawn at random
  const rules = [
    ['SGD', Sgd, 0],
    ['row-wise Adagrad', RowwiseAdagrad, 0],
    ['AdamW', AdamW, 16],
  ] as const
  return rules.map(([name, rule, state]) => ({
    name: `table's ${name}, float32, dim ${width}, sort and update`,
    compute: 'float32',
    operations: ['sort_rows', 'sparse_update'],
    bytes: rows * width * (8 + state) + entries * (width * 4 + 8),
    flops: 0,
    table: true,
    meanTolerance: chosen,
    make: (device, sizes) => step(device, sizes, 'float32', rule),
  }))
}

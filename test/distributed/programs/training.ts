// One rank of test/distributed/training.test.ts: a small decoder that all ranks train, and the same
// one in the process of rank 0, with the batches of all. Writes the losses of both as JSON.

import { initDistributed } from '../../../lib/distributed/index.js'
import { AdamW, openDevice } from '../../../lib/index.js'
import { fit, TextDataset, Transformer, type TransformerOptions } from '../../../lib/nn/index.js'
import type { Tensor } from '../../../lib/tensor.js'
import type { World } from '../../../lib/world.js'
import { report } from './result.js'

const {
  kind,
  steps,
  path,
  resume,
  lr = 3e-3,
  whole,
  columns,
  uneven = false,
  together: only,
  batch = 12, // of all ranks
  ...changes
} = JSON.parse(process.argv[2] ?? '{}') as {
  kind: 'cpu' | 'simt'
  steps: number
  path?: string
  resume?: boolean
  lr?: number
  columns?: number // ranks that divide the tables; default all
  uneven?: boolean // earlier ranks get more of a batch
  batch?: number
  together?: boolean // the ranks alone, once
  whole?: boolean // what is resumed is one process with a whole model
} & Partial<TransformerOptions>
const world = await initDistributed()
const group = columns ? await world.split({ color: Math.floor(world.rank / columns) }) : world
const device = openDevice(kind, kind === 'cpu' ? { threads: 1 } : {})
const text = 'the quick brown fox jumps over the lazy dog; '.repeat(40)
const contextLength = 12

const options: TransformerOptions = {
  vocabSize: 128,
  dim: 26,
  layers: 2,
  heads: 2,
  headDim: 8,
  contextLength,
  feedForward: { kind: 'swiglu', hiddenDim: 32 },
  memory: { layers: [1], nKeys: 16, heads: 2, knn: 4, keyDim: 16 },
  seed: 7,
  ...changes,
}

/** Of each batch some sequences: of three ranks the first has half of them, the last a sixth. */
function* partsOf(data: TextDataset, { rank, size }: World) {
  const total = (size * (size + 1)) / 2
  const begin = (r: number) => (batch * (r * size - (r * (r - 1)) / 2)) / total
  for (const { tokens, targets } of data) {
    const own = (t: Tensor) => t.rows(begin(rank), begin(rank + 1))
    yield { tokens: own(tokens), targets: own(targets) }
  }
}

async function losses(world: World | undefined, first: boolean): Promise<number[]> {
  const model = new Transformer(device, { ...options, ...(world && { world: group }) })
  const optimizer = new AdamW(model.parameters(), { lr, tableLr: 3 * lr })
  const batchSize = uneven ? batch : batch / (world?.size ?? 1)
  const data = new TextDataset(text, {
    device,
    contextLength,
    batchSize,
    tokenizer: { encode: (t) => Array.from(t, (c) => c.charCodeAt(0) % 128), decode: () => '' },
    ...(world && !uneven && { world }),
  })
  const found: number[] = []
  await fit(model, world && uneven ? partsOf(data, world) : data, {
    optimizer,
    steps,
    clip: { maxNorm: 1, tables: 'apart' },
    ...(world && { world }),
    ...(path && first && !resume && { checkpoint: { path, every: 10 } }),
    ...(path && first && resume && { resume: path }),
    onStep: ({ loss, norms }) => {
      found.push(loss, ...norms)
    },
  })
  model.dispose()
  optimizer.dispose()
  return found
}

const together = await losses(whole ? undefined : world, true)
const again = path || only ? together : await losses(world, false)
const alone = only || world.rank > 0 ? [] : await losses(undefined, false)
report(world.rank, { rank: world.rank, together, again, alone })
await world.close()

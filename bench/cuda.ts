// `npm run test:cuda`, second half: the kernels of a GPU, timed by its own events, beside its
// measured copy bandwidth. Bytes are those an operation can't do without (the design of each
// kernel): rows that caches keep make more than the copy bandwidth possible.

import {
  AdamW,
  type Device,
  type DeviceName,
  MemoryLayer,
  openDevice,
  ops,
  RowwiseAdagrad,
  Sgd,
} from '../lib/index.js'
import { sampleIndices } from './data.js'
import { median } from './harness.js'
import { textTable } from './report.js'
import { distributions } from './shapes.js'

const device = openDevice((process.argv[2] ?? 'cuda') as DeviceName)
const emulated = device.kind === 'simt' // shows that all of it runs: its times mean nothing
const repeats = emulated ? 1 : 20

interface Measurement {
  name: string
  microseconds: number
  bytes: number
}

/** Median time of the named operations of `run` on the device, in µs. */
async function time(
  device: Device,
  operations: readonly string[],
  run: () => void,
): Promise<number> {
  for (let i = 0; i < 3; i++) run()
  await device.synchronize()
  const samples: number[] = []
  for (let i = 0; i < repeats; i++) {
    device.profile()
    run()
    await device.synchronize()
    const profile = device.profile()
    samples.push(
      operations.reduce((sum, name) => sum + (profile[name]?.milliseconds ?? 0), 0) * 1e3,
    )
  }
  return median(samples)
}

const measurements: Measurement[] = []
const measure = async (
  name: string,
  bytes: number,
  operations: readonly string[],
  run: () => void,
) => {
  measurements.push({ name, bytes, microseconds: await time(device, operations, run) })
}

const size = emulated ? 2 ** 16 : 2 ** 30
{
  using from = device.zeros([size / 4])
  using to = device.zeros([size / 4])
  await measure('copy of 1 GiB', 2 * size, ['copy'], () => to.copyFrom(from))
}

const [tokens, heads, knn, nKeys, half] = emulated ? [4, 2, 4, 16, 8] : [16384, 4, 32, 1024, 256]
const slots = nKeys ** 2
const entries = tokens * heads * knn
for (const distribution of distributions) {
  using indices = device.tensor(sampleIndices(distribution, entries, slots, 1), [
    tokens,
    heads * knn,
  ])
  using weights = device.uniform([tokens, heads * knn], { seed: 1 })
  for (const dtype of ['bfloat16', 'float32'] as const) {
    for (const dim of emulated ? [8] : [64, 1024]) {
      const width = dtype === 'float32' ? 4 : 2
      const label = `${dtype}, dim ${dim}, ${distribution}`
      using table = device.normal([slots, dim], { seed: 2, dtype })
      using y = device.empty([tokens, dim])
      using dWeights = device.empty([tokens, heads * knn])
      await measure(
        `embeddingBag ${label}`,
        entries * (dim * width + 8) + tokens * dim * 4,
        ['embedding_bag'],
        () => ops.embeddingBag(table, indices, weights, { out: y }),
      )
      await measure(
        `its weights' gradient ${label}`,
        entries * (dim * width + 8) + tokens * dim * 4,
        ['embedding_bag_weights_backward'],
        () =>
          ops.embeddingBagBackward(y, table, indices, weights, {
            needs: { table: false, weights: true },
            out: { dWeights },
          }),
      )
    }
  }
}
for (const [name, optimizer, state] of [
  ['SGD', Sgd, 0],
  ['row-wise Adagrad', RowwiseAdagrad, 0],
  ['AdamW', AdamW, 16],
] as const) {
  const dim = emulated ? 8 : 256
  const layer = new MemoryLayer(device, { inputDim: dim, heads, knn, nKeys, keyDim: 2 * half })
  const step = new optimizer(layer.parameters(), { lr: 1e-3 })
  using x = device.normal([tokens, dim], { seed: 3 })
  using dy = device.normal([tokens, dim], { seed: 4 })
  layer.backward(layer.forward(x).context, dy).dispose()
  const touched = (await layer.values.gradient().data()).rows.length
  await measure(
    `table's ${name}, float32, dim ${dim}, sort and update`,
    touched * dim * (8 + state) + entries * (dim * 4 + 8),
    ['sort_rows', 'sparse_update'],
    () => step.step(),
  )
  layer.dispose()
}
{
  using query = device.normal([tokens, heads, 2, half], { seed: 4 })
  using keys = device.normal([heads, 2, nKeys, half], { seed: 5 })
  await measure(
    `productKeyLookup, n ${nKeys}, d ${half}, k ${knn}`,
    (query.size + keys.size + 3 * entries) * 4,
    ['product_key_lookup'],
    () => {
      const { indices, scores, weights } = ops.productKeyLookup(query, keys, { knn })
      for (const t of [indices, scores, weights]) t.dispose()
    },
  )
}

const gigabytes = ({ bytes, microseconds }: Measurement) => bytes / microseconds / 1e3
const copy = gigabytes(measurements[0]!)
console.log(
  `\n${device.description}; measured copy: ${copy.toFixed(0)} GB/s; median of ${repeats}\n`,
)
const rows = measurements.map((m) => [
  m.name,
  m.microseconds.toFixed(1),
  gigabytes(m).toFixed(0),
  `${((100 * gigabytes(m)) / copy).toFixed(0)} %`,
])
console.log(textTable([['operation', 'µs', 'GB/s', 'of copy'], ...rows], [1, 2, 3]))

// Reads rows of a table: first with indices given by hand, then with those of a product-key lookup.
//
//   npx tsx examples/read-a-table.ts

import { openDevice, ops, ValueTable } from 'memory-layers'

const device = openDevice()
console.log(`on ${device.name}: ${device.description} (${device.reason})`)

// 64 * 64 slots of 16 numbers.
const table = new ValueTable(device, { slots: 64 * 64, dim: 16, init: { std: 1, seed: 1 } })

// Two bags of three entries each. -1 is a padding entry.
const indices = new Int32Array([5, 17, 4095, 17, 17, -1])
const weights = device.tensor([0.5, 0.25, 0.25, 1, -1, 1], [2, 3])
const y = ops.embeddingBag(table.weight, indices, weights)
console.log(
  'bag 0:',
  [...(await y.rows(0, 1).data())]
    .slice(0, 4)
    .map((v) => v.toFixed(3))
    .join(' '),
  '…',
)
console.log(
  'bag 1 (a row minus itself):',
  [...(await y.rows(1, 2).data())].slice(0, 4).join(' '),
  '…',
)

// 8 queries of 2 heads find the best 4 of all 4,096 slots: each half of a query is compared with 64
// half-keys.
const query = device.normal([8, 2, 2, 32], { seed: 2 })
const keys = device.normal([2, 2, 64, 32], { seed: 3 })
const lookup = ops.productKeyLookup(query, keys, { knn: 4 })
console.log('slots of query 0, head 0:', (await lookup.indices.data()).subarray(0, 4).join(' '))
console.log(
  'their weights:',
  [...(await lookup.weights.data()).subarray(0, 4)].map((v) => v.toFixed(3)).join(' '),
)

const read = ops.embeddingBag(
  table.weight,
  lookup.indices.reshape([8, 8]),
  lookup.weights.reshape([8, 8]),
)
console.log('rows read into', read.toString())

const { allocated, peak } = device.memory()
console.log(
  `${(allocated / 1024).toFixed(0)} KiB in tensors, ${(peak / 1024).toFixed(0)} KiB at most`,
)

// Every collective, with what each rank gets of it.

import { initDistributed } from '../../../dist/distributed.js'
import { errorOf, numbers, openTestDevice, report } from './report.mjs'

const world = await initDistributed({ timeout: 60 })
const device = openTestDevice()
const { rank, size } = world
const results = {}
const list = async (tensor) => Array.from(await tensor.data())

/** Rows that a rank has, some of them none. */
const rowsOf = (r) => (r * 5 + 2) % 4
const rows = Array.from({ length: size }, (_, r) => rowsOf(r))

for (const count of [0, 1, 7, 1000])
  for (const combine of ['sum', 'mean']) {
    const x = device.tensor(numbers(rank, count), [count])
    world.allReduce(x, { combine })
    results[`allReduce ${combine} ${count}`] = await list(x)
  }

const traffic = world.traffic().allReduce

{
  const x = device.tensor(numbers(rank, rowsOf(rank) * 3), [rowsOf(rank), 3])
  results.allGather = await list(world.allGather(x, rows))
  const bytes = device.tensor(
    Uint8Array.from({ length: 5 }, (_, i) => rank * 5 + i),
    [5],
  )
  results.allGatherBytes = await list(world.allGather(bytes))
  const half = device.tensor(numbers(rank, 6), [2, 3], 'bfloat16')
  results.allGatherHalf = Array.from(await world.allGather(half).bits())
}
{
  const send = rows.map((_, r) => (rank + 2 * r) % 3)
  const receive = rows.map((_, r) => (r + 2 * rank) % 3)
  const total = send.reduce((a, b) => a + b, 0)
  const x = device.tensor(numbers(rank, total * 2), [total, 2])
  results.allToAll = await list(world.allToAll(x, send, receive))
  const one = device.tensor(
    Int32Array.from({ length: size }, (_, r) => rank * 100 + r),
    [size],
  )
  results.transpose = await list(world.allToAll(one))
}
{
  const total = rows.reduce((a, b) => a + b, 0)
  const x = device.tensor(numbers(rank, total * 2), [total, 2])
  results.reduceScatter = await list(world.reduceScatter(x, rows))
}
{
  const x = device.tensor(numbers(rank, 9), [9])
  world.broadcast(x, size - 1)
  results.broadcast = await list(x)
}
{
  // Two buckets on their way, and other work meanwhile.
  const buckets = [33, 64].map((n) => device.tensor(numbers(rank, n), [n]))
  const pending = buckets.map((bucket) => world.startAllReduce(bucket))
  const beside = device.tensor(numbers(rank, 4), [4])
  pending[0].advance()
  const copy = device.zeros([4]).copyFrom(beside)
  for (const p of pending) p.wait()
  results.buckets = await Promise.all(buckets.map(list))
  results.beside = await list(copy)
  const x = device.tensor(numbers(rank, 3), [1, 3])
  const arriving = world.startAllGather(x)
  results.arriving = await list(arriving.wait())
}
{
  const parity = await world.split({ color: rank % 2, key: -rank })
  const x = device.tensor(numbers(rank, 5), [5])
  parity.allReduce(x)
  const inner = await parity.split({ color: 0 })
  results.split = {
    rank: parity.rank,
    size: parity.size,
    sum: await list(x),
    inner: await inner.exchange([rank]),
  }
  const y = device.tensor(numbers(rank, 5), [5])
  world.allReduce(y) // of the whole world again
  results.afterSplit = await list(y)
}
{
  const x = device.tensor(numbers(rank, 4), [4])
  const refused = await errorOf(() => device.capture(() => void world.allReduce(x)))
  results.captured = { refused, left: await list(x) }
}
results.exchange = await world.exchange([rank, 2 ** 53 - rank])
results.exchangeSync = world.exchangeSync([rank * 0.5])
await world.barrier()
await device.synchronize()
report({ rank, size, description: world.description, traffic, all: world.traffic(), results })
await world.close()

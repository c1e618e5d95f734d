// What becomes of the other ranks when one does what the first argument says.

import { initDistributed } from '../../../dist/distributed.js'
import { ops } from '../../../dist/index.js'
import { errorOf, launchedRank, openTestDevice, report, reportLast } from './report.mjs'

const [mode] = process.argv.slice(2)
const culprit = Number(process.env.TEST_CULPRIT ?? 1)
const guilty = launchedRank === culprit
const timeout = Number(process.env.TEST_TIMEOUT ?? 25)

if (guilty && mode === 'absent') {
  await new Promise((resolve) => setTimeout(resolve, 1000 * (timeout + 15)))
  process.exit(1)
}
const start = performance.now()
let world
const refused = await errorOf(async () => {
  world = await initDistributed({ timeout })
})
if (refused) {
  reportLast({ refused, seconds: (performance.now() - start) / 1000 })
  process.exit(3)
}
const device = openTestDevice()
const { rank, size } = world
const x = device.tensor(
  Float32Array.from({ length: 4096 }, (_, i) => i + rank),
  [4096],
)

/** A step with a collective; what it is refused with. */
const step = () =>
  errorOf(async () => {
    world.allReduce(x, { combine: 'mean' })
    await x.data()
  })

const modes = {
  // Ends without a word, in the middle of a step.
  kill() {
    world.allReduce(x)
    process.kill(process.pid, 'SIGKILL')
  },
  exit: () => process.exit(0),
  stop: () => process.kill(process.pid, 'SIGSTOP'),
  // Its process runs, and takes no part.
  late: () => new Promise((resolve) => setTimeout(resolve, 1000 * (timeout + 4))),
}

/** Errors that concern one call; the world goes on. */
async function recoverable() {
  const results = {}
  // One rank's data is void by a fault that only the data shows.
  const table = device.normal([4, 8], { seed: 1 })
  const indices = device.tensor(Int32Array.of(guilty ? 9 : 1), [1])
  const rows = ops.embedding(table, indices)
  world.allReduce(rows)
  results.void = await errorOf(() => rows.data())
  // A condition of the whole world, though this rank's own part is right.
  const gathered = world.allGather(device.zeros([3]))
  results.afterVoid = Array.from(await gathered.data())
  // Shapes that do not agree: less is sent than the others wait for, and more.
  for (const [name, count] of [
    ['fewer', 3],
    ['more', 5],
  ]) {
    const y = device.zeros([guilty ? count : 4])
    const all = world.allGather(y)
    results[name] = await errorOf(() => all.data())
    await world.barrier()
  }
  results.text = await errorOf(() => world.expectSame('the seed', guilty ? '7' : '1'))
  results.textSync = await errorOf(async () =>
    world.expectSameSync('shapes', guilty ? '[2]' : '[1]'),
  )
  results.equal = await errorOf(() => world.expectSame('the seed', '1'))
  results.again = await errorOf(() => initDistributed())
  return results
}

/** What is enqueued before close() ends before it, however long the device is busy. */
async function closing() {
  const results = {}
  const group = await world.split({ color: 0 })
  // A rank is waited for.
  const began = performance.now()
  if (guilty) await new Promise((resolve) => setTimeout(resolve, 1000))
  await world.barrier()
  results.barrier = performance.now() - began
  if (guilty) keepBusy()
  world.allReduce(x)
  await Promise.all([world.close(), world.close()])
  results.sum = Array.from((await x.data()).slice(0, 2))
  group.allReduce(x)
  results.after = await errorOf(() => x.data())
  return results
}

/** Enqueues work for about a second. */
function keepBusy() {
  const a = device.normal([600, 600], { seed: 1 })
  for (let i = 0; i < 40; i++) ops.matmul(a, a).dispose()
}

if (mode === 'closing') {
  report({ rank, results: await closing() })
} else if (mode === 'lost-at-close') {
  // All have called close(), and one is killed before what it has to send.
  world.allReduce(x)
  await x.data()
  const began = performance.now()
  if (guilty) {
    await world.barrier()
    process.kill(process.pid, 'SIGKILL')
  }
  world.allReduce(x)
  const error = await errorOf(() => world.close())
  const seconds = (performance.now() - began) / 1000
  const after = await errorOf(() => x.data())
  reportLast({ rank, size, error, seconds, after, exchange: after })
  process.exit(4)
} else if (mode === 'recoverable') {
  const results = await recoverable()
  results.step = await step()
  await device.synchronize().catch(() => {})
  report({ rank, results })
  await world.close()
} else {
  for (let i = 0; i < 3; ++i) await step()
  report({ rank, alive: true })
  const began = performance.now()
  if (guilty) await modes[mode]()
  let error = null
  while (!error) error = await step()
  const seconds = (performance.now() - began) / 1000
  // After the first, everything is refused at once: on the device and between hosts.
  const after = await step()
  const exchange = await errorOf(() => world.exchange([1]))
  const close = await errorOf(() => world.close())
  reportLast({ rank, size, error, seconds, after, exchange, close })
  process.exit(4)
}

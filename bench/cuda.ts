// `npm run test:cuda`, second half: the kernels of a GPU, timed by its own events, beside what it
// measures of itself: bytes a second of a copy, operations a second of a large product. Every case
// is computed by the CPU, too, and compared, before it is timed; those of a table with fewer slots.
// Bytes are those an operation can't do without (the design of each kernel): rows that caches keep
// make more than the copy bandwidth possible. On `simt` all of it runs, small; its times mean
// nothing.

import { type Device, type DeviceName, openDevice } from '../lib/index.js'
import { expectNear, expectNearInTheMean } from './check.js'
import { cudaCases } from './cuda-cases.js'
import type { Case, Sizes } from './cuda-work.js'
import { median } from './harness.js'
import { textTable } from './report.js'

const device = openDevice((process.argv[2] ?? 'cuda') as DeviceName)
const cpu = openDevice('cpu')
const emulated = device.kind === 'simt'
const sizes: Sizes = emulated
  ? { tokens: 8, dims: [8], width: 16, heads: 2, knn: 4, nKeys: 16, half: 8, sequence: 8 }
  : {
      tokens: 16384,
      dims: [64, 1024],
      width: 1024,
      heads: 4,
      knn: 32,
      nKeys: 1024,
      half: 256,
      sequence: 1024,
    }
const checkedKeys = emulated ? 8 : 128 // nKeys of tables that are compared
const [repeats, seconds] = emulated ? [1, 0] : [20, 1.5]

/** Fails unless the device and the CPU compute the same. */
async function check({ name, make, table, tolerance, meanTolerance }: Case): Promise<void> {
  const small = table ? { ...sizes, nKeys: checkedKeys } : sizes
  const outputs = async (on: Device) => {
    const work = make(on, small)
    try {
      const tensors = work.results()
      const entries = Object.entries(tensors).map(
        async ([key, t]) => [key, await t.data()] as const,
      )
      return Object.fromEntries(await Promise.all(entries))
    } finally {
      work.dispose()
    }
  }
  const [got, wanted] = [await outputs(device), await outputs(cpu)]
  for (const [key, numbers] of Object.entries(wanted)) {
    const what = `${name}: ${key}`
    if (tolerance !== undefined) expectNear(what, got[key], numbers, tolerance)
    if (meanTolerance !== undefined) expectNearInTheMean(what, got[key], numbers, meanTolerance)
  }
}

/** Median µs of a run, by the device's events; of a whole layer by the clock, launches included. */
async function time({ make, operations }: Case): Promise<number> {
  const work = make(device, sizes)
  const start = performance.now()
  try {
    for (let i = 0; i < 3; i++) work.run()
    await device.synchronize()
    const samples: number[] = []
    while (
      samples.length < repeats &&
      (samples.length < 3 || performance.now() - start < seconds * 1e3)
    ) {
      if (operations) {
        device.profile()
        work.run()
        await device.synchronize()
        const profile = device.profile()
        const spent = operations.map((name) => profile[name]?.milliseconds ?? Number.NaN)
        samples.push(spent.reduce((sum, ms) => sum + ms, 0) * 1e3)
      } else {
        const runs = 5
        const from = performance.now()
        for (let i = 0; i < runs; i++) work.run()
        await device.synchronize()
        samples.push(((performance.now() - from) / runs) * 1e3)
      }
      if (emulated) break
    }
    return median(samples)
  } finally {
    work.dispose()
  }
}

const began = performance.now()
const rows: string[][] = []
let copyRate = 0 // bytes a second
const productRate = { float32: 0, bfloat16: 0 } // operations a second
for (const c of cudaCases(sizes)) {
  await check(c)
  const us = await time(c)
  const [bytes, flops] = [c.bytes / us / 1e3, c.flops / us / 1e3] // GB/s, GFLOP/s
  if (c.name.startsWith('copy')) copyRate = bytes
  if (c.name.startsWith('linear ')) productRate[c.compute] = flops
  const share = (rate: number, of: number) => (rate ? `${((100 * rate) / of).toFixed(0)} %` : '-')
  rows.push([
    c.name,
    us.toFixed(1),
    bytes ? bytes.toFixed(0) : '-',
    share(bytes, copyRate),
    flops ? (flops / 1e3).toFixed(1) : '-',
    share(flops, productRate[c.compute]),
  ])
}
const heads = ['operation', 'µs', 'GB/s', 'of copy', 'TFLOP/s', 'of linear']
console.log(`\n${device.description}; medians of up to ${repeats}, all results checked\n`)
console.log(textTable([heads, ...rows], [1, 2, 3, 4, 5]))
console.log(`\n${rows.length} cases in ${((performance.now() - began) / 1e3).toFixed(0)} s`)

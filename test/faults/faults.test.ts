// A fault that is found late voids what depends on it and nothing else, and is reported once.

import { expect, test } from 'vitest'
import { openDevice, ops } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'
import { faulty, numbersOf } from '../support/faults.js'

const code = 'ERR_INDEX_RANGE'

onEveryDevice((device) => {
  test('voids what depends on it, and nothing else', async () => {
    const t = device.tensor([1, 2], [1, 2])
    const y = faulty(device)
    const z = ops.add(y, t)
    t.write([4, 5])
    ops.add(t, t, { out: t })
    await errorOf(code, () => z.data())
    expect(await numbersOf(t)).toEqual([8, 10])
    await device.synchronize()
  })

  test('is thrown by every use of what is void, also after the report', async () => {
    const y = faulty(device)
    await errorOf(code, () => device.synchronize())
    await errorOf(code, () => y.data())
    await errorOf(code, () => y.dataSync())
    await errorOf(code, () => ops.add(y, device.zeros([1, 2])).data())
    await errorOf(code, () => y.to('bfloat16').data())
    await errorOf(code, () => device.zeros([1, 2]).copyFrom(y).data())
    await device.synchronize()
  })

  test('is seen through every view of the memory, until all of it is overwritten', async () => {
    const y = faulty(device)
    const [flat, first, last] = [y.reshape([2]), y.reshape([2, 1]).rows(0, 1), y.reshape([2, 1])]
    for (const t of [y, flat, first, last]) await errorOf(code, () => t.data())
    first.write([3])
    expect(await numbersOf(first)).toEqual([3])
    for (const t of [y, flat, last]) await errorOf(code, () => t.data())
    last.rows(1, 2).write([4])
    for (const t of [y, flat, last]) expect(await numbersOf(t)).toEqual([3, 4])
    const again = faulty(device)
    ops.add(y, y, { out: again })
    expect(await numbersOf(again)).toEqual([6, 8])
    await errorOf(code, () => device.synchronize())
    await device.synchronize()
  })

  test('voids a result in place', async () => {
    const t = device.tensor([1, 2], [1, 2])
    ops.add(t, faulty(device), { out: t })
    await errorOf(code, () => t.data())
    ops.add(t, device.zeros([1, 2]), { out: t })
    await errorOf(code, () => t.data())
  })

  test('does not stick to memory that is freed', async () => {
    for (let i = 0; i < 20; i++) faulty(device).dispose()
    for (let i = 0; i < 20; i++) {
      const t = device.empty([1, 2])
      await t.data()
    }
    for (let i = 0; i < 20; i++) await errorOf(code, () => device.synchronize())
    await device.synchronize()
  })

  test('synchronize reports each fault once, the earliest first, unless data() has', async () => {
    faulty(device, 11)
    const second = faulty(device, 12)
    faulty(device, 13)
    await errorOf(code, () => second.data())
    expect(await errorOf(code, () => device.synchronize())).toContain('is 11,')
    const waits = [device.synchronize(), device.synchronize()]
    const [rejected, resolved] = await Promise.allSettled(waits)
    expect(rejected).toMatchObject({ reason: { message: expect.stringContaining('is 13,') } })
    expect(resolved?.status).toBe('fulfilled')
  })

  test('of later work is not reported by an earlier synchronize', async () => {
    const wait = device.synchronize()
    const y = faulty(device)
    await wait
    await errorOf(code, () => y.data())
  })

  test('moves to another device with the tensor', async () => {
    const other = openDevice('cpu', { threads: 3 })
    const [good, bad] = [device.tensor([1, 2]).to(other), faulty(device, 17).to(other)]
    expect(await errorOf(code, () => bad.data())).toContain('is 17,')
    await errorOf(code, () => bad.to(device).data())
    expect(await numbersOf(good)).toEqual([1, 2])
    await other.synchronize()
    await device.synchronize()
  })

  test('a row of faults leaves nothing behind', async () => {
    const before = device.memory().allocated
    for (let i = 0; i < (device.kind === 'simt' ? 50 : 2000); i++) {
      const [indices, table, one] = [
        device.tensor(Int32Array.from([9]), [1, 1]),
        device.zeros([4, 2]),
        device.zeros([1, 1]),
      ]
      for (const t of [ops.embeddingBag(table, indices, one), indices, table, one]) t.dispose()
    }
    for (;;) {
      const report = await device.synchronize().catch((error) => error)
      if (!report) break
      expect(report.code).toBe(code)
    }
    expect(device.memory().allocated).toBeLessThanOrEqual(before)
  })
})

// Random programs of two flows against an interpreter: every read gives the interpreter's numbers,
// or the fault that the interpreter says.

import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type Device, ops, type Tensor } from '../../lib/index.js'
import { onEveryDevice } from '../support/devices.js'

const count = 4 // tensors of each flow, [rows, width]
const rows = 3
const width = 2

/** A row of numbers, or the number of the fault that made it void. */
type Row = number[] | { fault: number }
type Value = Row[]

const isVoid = (row: Row): row is { fault: number } => 'fault' in row
const faultOf = (value: Value) =>
  value
    .filter(isVoid)
    .reduce<number | undefined>((a, r) => Math.min(a ?? r.fault, r.fault), undefined)

/** What an operation gives: void as a whole with the earliest fault of its inputs. */
function result(inputs: Value[], compute: () => number[][]): Value {
  const faults = inputs.map(faultOf).filter((f) => f !== undefined)
  if (faults.length === 0) return compute()
  const fault = Math.min(...faults)
  return Array.from({ length: rows }, () => ({ fault }))
}

interface Flow {
  tensors: Tensor[]
  values: Value[]
}

const tensorIndex = fc.nat(count - 1)
const step = fc.record({
  flow: fc.nat(1),
  kind: fc.constantFrom(
    'write',
    'add',
    'copy',
    'rows',
    'gather',
    'fault',
    'replace',
    'read',
    'sync',
  ),
  to: tensorIndex,
  a: tensorIndex,
  b: tensorIndex,
  row: fc.nat(rows - 1),
  number: fc.integer({ min: -50, max: 50 }),
})
type Step = typeof step extends fc.Arbitrary<infer S> ? S : never

async function expectValue(tensor: Tensor, value: Value): Promise<void> {
  const fault = faultOf(value)
  const got = await tensor.data().catch((error: Error) => error)
  if (fault === undefined) expect(Array.from(got as Float32Array)).toEqual(value.flat())
  else expect((got as Error).message).toContain(`is ${fault},`)
}

function perform(device: Device, flow: Flow, s: Step, fault: number): Promise<unknown> | undefined {
  const { tensors, values } = flow
  const [to, a, b] = [tensors[s.to]!, tensors[s.a]!, tensors[s.b]!]
  const [va, vb] = [values[s.a]!, values[s.b]!]
  const full = Array.from({ length: rows }, (_, i) => [s.number + i, s.number - i])
  const gather = (index: number) => {
    const indices = device.tensor(Int32Array.from([0, index, 1]), [rows, 1])
    ops.embeddingBag(a, indices, device.tensor([1, 1, 1], [rows, 1]), { out: to })
  }
  switch (s.kind) {
    case 'write':
      to.write(full.flat())
      values[s.to] = full
      return
    case 'add': // halves, so that sums stay small
      ops.add(a, b, { out: to, alpha: 0.5, beta: 0.5 })
      values[s.to] = result([va, vb], () =>
        va.map((r, i) =>
          (r as number[]).map((x, j) => Math.fround(0.5 * x + 0.5 * (vb[i] as number[])[j]!)),
        ),
      )
      return
    case 'copy':
      if (to !== a) to.copyFrom(a)
      values[s.to] = s.to === s.a ? va : result([va], () => va as number[][])
      return
    case 'rows':
      to.rows(s.row, s.row + 1).write(full[0]!)
      values[s.to] = values[s.to]!.map((r, i) => (i === s.row ? full[0]! : r))
      return
    case 'gather':
      if (to === a) return
      gather(s.row)
      values[s.to] = result([va], () => [va[0], va[s.row], va[1]] as number[][])
      return
    case 'fault':
      if (to === a) return
      gather(fault)
      values[s.to] = result([va], () => [])
      if (faultOf(va) === undefined) values[s.to] = Array.from({ length: rows }, () => ({ fault }))
      return
    case 'replace':
      to.dispose()
      tensors[s.to] = device.tensor(full.flat(), [rows, width])
      values[s.to] = full
      return
    case 'read':
      return expectValue(a, va)
    case 'sync':
      return device.synchronize().catch((error) => expect(error.code).toBe('ERR_INDEX_RANGE'))
  }
}

onEveryDevice((device) => {
  test('random programs of two flows', async () => {
    const program = fc.array(step, { minLength: 10, maxLength: 60 })
    await fc.assert(
      fc.asyncProperty(program, async (steps) => {
        const flows: Flow[] = [0, 1].map(() => ({
          tensors: Array.from({ length: count }, () => device.zeros([rows, width])),
          values: Array.from({ length: count }, () =>
            Array.from({ length: rows }, () => Array<number>(width).fill(0)),
          ),
        }))
        const pending: unknown[] = []
        for (const [i, s] of steps.entries()) {
          const done = perform(device, flows[s.flow]!, s, 1000 + i)
          if (s.number % 4 === 0) await done
          else pending.push(done)
        }
        await Promise.all(pending)
        for (const { tensors, values } of flows)
          for (const [i, t] of tensors.entries()) {
            await expectValue(t, values[i]!)
            t.dispose()
          }
        for (let i = 0; i < steps.length; i++) await device.synchronize().catch(() => {})
      }),
      { numRuns: device.kind === 'simt' ? 10 : 200, seed: 41 },
    )
  })
})

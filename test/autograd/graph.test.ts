// What a graph holds, what a backward frees, and what is refused.

import { describe, expect, test } from 'vitest'
import {
  keep,
  MemoryLayer,
  noGrad,
  ops,
  Sgd,
  type Tensor,
  tidy,
  ValueTable,
} from '../../lib/index.js'
import { CrossEntropy, Linear } from '../../lib/nn/index.js'
import { onEveryDevice } from '../support/devices.js'
import { errorOf } from '../support/errors.js'

onEveryDevice((device) => {
  const random = (shape: number[], seed: number) => device.normal(shape, { seed })
  const leaf = (shape: number[], seed: number) => random(shape, seed).requireGrad()
  const numbers = async (t: Tensor | undefined) => [...((await t?.data()) ?? [])]
  const allocated = () => device.memory().allocated

  describe('requiresGrad', () => {
    test('is of parameters, of what requireGrad() was called on, and of what comes of them', () => {
      const x = random([2, 3], 1)
      const layer = new Linear(device, { inputDim: 3, outputDim: 2 })
      expect(x.requiresGrad).toBe(false)
      expect(ops.silu(x).requiresGrad).toBe(false)
      for (const p of layer.parameters()) expect(p.value.requiresGrad).toBe(true)
      expect(x.requireGrad()).toBe(x)
      expect(x.requiresGrad).toBe(true)
      expect(x.grad).toBeUndefined()
      expect(ops.silu(x).requiresGrad).toBe(true)
      expect(ops.topK(x, 2).values.requiresGrad).toBe(false)
      expect(ops.siluBackward(x, x).requiresGrad).toBe(false)
    })

    test('is refused of integers', async () => {
      const message = await errorOf('ERR_DTYPE', () => device.zeros([2], 'int32').requireGrad())
      expect(message).toContain('Tensor.requireGrad')
    })

    test('a 16-bit leaf has a float32 gradient', async () => {
      const x = random([3], 1).to('bfloat16').requireGrad()
      ops.add(x.to('float32'), random([3], 2)).backward(device.tensor([1, 2, 3]))
      expect([x.grad?.dtype, await numbers(x.grad)]).toEqual(['float32', [1, 2, 3]])
    })

    test('of a result asks for its gradient as well', async () => {
      const x = leaf([3], 1)
      const h = ops.add(x, x).requireGrad()
      ops.add(h, h, { alpha: 2 }).backward(device.tensor([1, 1, 1]))
      expect([await numbers(h.grad), await numbers(x.grad)]).toEqual([
        [3, 3, 3],
        [6, 6, 6],
      ])
      expect(h.disposed).toBe(false)
    })
  })

  describe('backward', () => {
    test('adds to gradients until they are disposed, and starts anew then', async () => {
      const x = leaf([2], 1)
      const run = () => ops.add(x, x).backward(device.tensor([1, 10]))
      run()
      const first = x.grad
      run()
      expect(x.grad).toBe(first)
      expect(await numbers(x.grad)).toEqual([4, 40])
      x.grad?.dispose()
      expect(x.grad).toBeUndefined()
      run()
      expect(await numbers(x.grad)).toEqual([2, 20])
    })

    test('needs dy unless there is one element, which may be a leaf itself', async () => {
      const x = leaf([2], 1)
      const sum = ops.add(x, x)
      expect(await errorOf('ERR_SHAPE', () => sum.backward())).toContain('backward(dy)')
      await errorOf('ERR_SHAPE', () => sum.backward(device.zeros([1, 2])))
      await errorOf('ERR_DTYPE', () => sum.backward(device.zeros([2], 'int32')))
      await errorOf('ERR_DTYPE', () => sum.backward(1 as never))
      sum.backward(device.zeros([2])) // the graph is not spent by what was refused
      const one = leaf([1], 2)
      one.backward()
      expect(await numbers(one.grad)).toEqual([1])
    })

    test('is refused a second time, through any part of the graph', async () => {
      const x = leaf([1], 1)
      const h = keep(ops.silu(x))
      const [a, b] = [ops.add(h, h), ops.gelu(h)]
      a.backward()
      const before = await numbers(x.grad)
      expect(await errorOf('ERR_CONTEXT', () => a.backward())).toContain('spent')
      await errorOf('ERR_CONTEXT', () => b.backward())
      await errorOf('ERR_CONTEXT', () => ops.add(h, h).backward())
      expect(await numbers(x.grad)).toEqual(before)
    })

    test('is refused where nothing was recorded, and for gradients of gradients', async () => {
      const x = leaf([1], 1)
      await errorOf('ERR_CONTEXT', () => random([1], 1).backward())
      await errorOf('ERR_CONTEXT', () => noGrad(() => ops.silu(x)).backward())
      await errorOf('ERR_UNSUPPORTED', () => ops.silu(x).backward(x))
      ops.silu(x).backward()
      expect(x.grad?.requiresGrad).toBe(false)
    })

    test('names what was written since', async () => {
      const layer = new Linear(device, { inputDim: 2, outputDim: 2 })
      const [weight] = layer.parameters()
      const optimizer = new Sgd(layer.parameters(), { lr: 1 })
      const x = leaf([3, 2], 1)
      const dy = random([3, 2], 2)
      const y = ops.linear(x, weight!.value)
      optimizer.step()
      const message = await errorOf('ERR_CONTEXT', () => y.backward(dy))
      expect(message).toContain('"weight" of linear')
      const z = layer.apply(x)
      optimizer.step()
      expect(await errorOf('ERR_CONTEXT', () => z.backward(dy))).toContain('"weight"')
      const h = ops.silu(x)
      x.copyFrom(dy)
      expect(await errorOf('ERR_CONTEXT', () => h.backward(dy))).toContain('"x" of silu')
      // add reads neither of its inputs again
      const sum = ops.add(x, x)
      x.copyFrom(dy)
      sum.backward(dy)
    })

    test('dy may be written to afterwards, and disposed', async () => {
      const [x, y] = [leaf([2], 1), leaf([2], 2)]
      const dy = device.tensor([1, 2])
      ops.add(x, y).backward(dy)
      dy.write([7, 7])
      dy.dispose()
      x.grad?.write([5, 5])
      expect([await numbers(x.grad), await numbers(y.grad)]).toEqual([
        [5, 5],
        [1, 2],
      ])
    })

    test('goes through a deep graph', async () => {
      const x = leaf([1], 1)
      let y: Tensor = x
      for (let i = 0; i < 20_000 / (device.kind === 'simt' ? 20 : 1); i++) y = ops.add(y, x)
      const before = allocated()
      y.backward()
      expect(allocated()).toBeLessThan(before)
      expect((await numbers(x.grad))[0]).toBeGreaterThan(1000)
    })

    test('a fault voids the gradients that depend on it', async () => {
      const table = device.normal([4, 2], { seed: 1 }).requireGrad()
      const x = leaf([1, 2], 2)
      const bad = device.tensor([9], [1, 1], 'int32')
      const y = ops.embeddingBag(table, bad, device.tensor([1], [1, 1]))
      const z = ops.silu(x)
      ops.add(y, z).backward(random([1, 2], 3))
      await errorOf('ERR_INDEX_RANGE', () => table.grad?.data())
      expect((await numbers(x.grad)).every(Number.isFinite)).toBe(true)
      await device.synchronize().catch(() => undefined)
    })
  })

  describe('memory', () => {
    test('the graph holds what its backward needs, whatever is disposed', async () => {
      const run = (dispose: boolean) => {
        const [x, w] = [leaf([4, 6], 1), leaf([6, 6], 2)]
        const h = ops.linear(x, w)
        const s = ops.softmax(h)
        const z = ops.siluGate(s, h)
        const y = ops.add(z, ops.rmsNorm(h))
        if (dispose) for (const t of [h, s, z]) t.dispose()
        y.backward(random([4, 6], 3))
        return [x.grad, w.grad]
      }
      const [kept, dropped] = [run(false), run(true)]
      expect(await numbers(dropped[0])).toEqual(await numbers(kept[0]))
      expect(await numbers(dropped[1])).toEqual(await numbers(kept[1]))
    })

    test('an input that is disposed before the backward is freed by it', async () => {
      const w = leaf([8, 8], 2)
      const before = allocated()
      const x = random([64, 8], 1)
      const y = ops.linear(x, w)
      x.dispose()
      await errorOf('ERR_DISPOSED', () => x.dataSync())
      y.backward(random([64, 8], 3))
      y.dispose()
      w.grad?.dispose()
      await device.synchronize()
      // dy was not disposed
      expect(allocated() - before).toBe(64 * 8 * 4)
    })

    test('backward disposes all but the root, leaves and what was kept', async () => {
      const x = leaf([1, 4], 1)
      const a = ops.silu(x)
      const b = keep(ops.gelu(a))
      const { y: c, lse } = ops.attention(b.reshape([1, 1, 1, 4]), ...three(b))
      c.backward(random([1, 1, 1, 4], 2))
      expect([x, a, b, c, lse].map((t) => t.disposed)).toEqual([false, true, false, false, true])
      const message = await errorOf('ERR_DISPOSED', () => a.dataSync())
      expect(message).toContain('keep(')
      expect(await errorOf('ERR_DISPOSED', () => ops.silu(a))).toContain('keep(')
    })

    const three = (t: Tensor): [Tensor, Tensor] => [
      t.reshape([1, 1, 1, 4]),
      t.reshape([1, 1, 1, 4]),
    ]

    test('without a backward, dispose() of the root frees the graph', async () => {
      const x = leaf([32, 8], 1)
      const layer = new MemoryLayer(device, { inputDim: 8, heads: 2, knn: 3, nKeys: 4, keyDim: 8 })
      const before = allocated()
      const kept = keep(ops.silu(x))
      const h = ops.add(kept, layer.apply(x))
      const y = ops.linear(ops.gelu(h), leaf([8, 8], 2))
      const other = ops.silu(h)
      y.dispose()
      expect(h.disposed).toBe(false)
      other.dispose()
      expect(h.disposed).toBe(true)
      expect(kept.disposed).toBe(false)
      expect(await errorOf('ERR_DISPOSED', () => h.dataSync())).toContain('keep(')
      kept.dispose()
      await device.synchronize()
      expect(allocated() - before).toBe(8 * 8 * 4) // the leaf of the product
      expect(x.grad).toBeUndefined()
    })

    test('a graph that is dropped is collected', async () => {
      const { setFlagsFromString } = await import('node:v8')
      const { runInNewContext } = await import('node:vm')
      setFlagsFromString('--expose-gc')
      const gc = runInNewContext('gc') as () => void
      const layer = new Linear(device, { inputDim: 64, outputDim: 64 })
      const before = allocated()
      for (let i = 0; i < 20; i++) {
        const x = random([256, 64], i)
        ops.silu(layer.apply(ops.silu(x)))
        x.dispose()
      }
      for (let i = 0; i < 50 && allocated() > before; i++) {
        gc()
        await new Promise((resolve) => setTimeout(resolve, 10))
      }
      expect(allocated()).toBeLessThanOrEqual(before)
    })
  })

  describe('noGrad', () => {
    test('records nothing inside, returns the result, and ends with an error', async () => {
      const x = leaf([2], 1)
      expect(noGrad(() => 7)).toBe(7)
      const [y, z] = noGrad(() => [ops.silu(x), noGrad(() => x.reshape([1, 2]))])
      expect([y?.requiresGrad, z?.requiresGrad, x.requiresGrad]).toEqual([false, false, true])
      const failing = () =>
        noGrad(() => {
          throw new Error('mine')
        })
      expect(failing).toThrow('mine')
      expect(ops.silu(x).requiresGrad).toBe(true)
    })

    test('refuses promises', async () => {
      expect(await errorOf('ERR_VALUE', () => noGrad(async () => 1))).toContain('promise')
      expect(await errorOf('ERR_VALUE', () => tidy(async () => 1))).toContain('promise')
      await errorOf('ERR_VALUE', () => noGrad(1 as never))
      await errorOf('ERR_VALUE', () => tidy(undefined as never))
      expect(ops.silu(leaf([1], 1)).requiresGrad).toBe(true)
    })

    test('out is refused while recording, and taken where nothing is recorded', async () => {
      const x = leaf([2], 1)
      const out = device.zeros([2])
      const message = await errorOf('ERR_UNSUPPORTED', () => ops.silu(x, { out }))
      expect(message).toContain('noGrad')
      expect(await numbers(out)).toEqual([0, 0])
      const q = leaf([1, 1, 1, 4], 1)
      await errorOf('ERR_UNSUPPORTED', () =>
        ops.attention(q, q, q, { out: { y: device.zeros([1, 1, 1, 4]) } }),
      )
      expect(noGrad(() => ops.silu(x, { out }))).toBe(out)
      ops.siluBackward(x, x, { out })
      expect(out.requiresGrad).toBe(false)
    })
  })

  describe('tidy', () => {
    test('disposes what was made inside and is not returned', () => {
      const x = random([4], 1)
      const before = allocated()
      const made: Tensor[] = []
      const result = tidy(() => {
        const t = [1, 2, 3, 4, 5].map((seed) => random([4], seed))
        made.push(...t)
        keep(t[4]!)
        return { a: t[0], list: [t[1], { b: t[2] }], number: 3 }
      })
      expect(made.map((t) => t.disposed)).toEqual([false, false, false, true, false])
      expect(result.number).toBe(3)
      for (const t of made) t.dispose()
      expect(allocated()).toBe(before)
      expect(x.disposed).toBe(false)
    })

    test('nests, and disposes all if the function throws', () => {
      const made: Tensor[] = []
      const note = <T extends Tensor>(t: T) => {
        made.push(t)
        return t
      }
      const outer = tidy(() => {
        const inner = tidy(() => [note(random([2], 1)), note(random([2], 2))][0]!)
        return note(ops.silu(inner))
      })
      expect(made.map((t) => t.disposed)).toEqual([true, true, false])
      expect(outer.disposed).toBe(false)
      const failing = () =>
        tidy(() => {
          note(random([2], 1))
          throw new Error('mine')
        })
      expect(failing).toThrow('mine')
      expect(made.at(-1)?.disposed).toBe(true)
    })

    test('leaves layers, tables, gradients and contexts that are returned', async () => {
      const x = leaf([3, 4], 1)
      const { layer, table, optimizer, loss } = tidy(() => {
        const layer = new Linear(device, { inputDim: 4, outputDim: 4 })
        const table = new ValueTable(device, { slots: 4, dim: 4 })
        const optimizer = new Sgd(layer.parameters(), { lr: 1 })
        const y = layer.apply(x)
        y.backward(random([3, 4], 2))
        const targets = device.tensor(Int32Array.of(0, 1, 2))
        const loss = new CrossEntropy(device).apply(layer.apply(x), targets)
        return { layer, table, optimizer, loss }
      })
      expect(x.grad?.disposed).toBe(false)
      expect(table.weight.disposed).toBe(false)
      loss.backward()
      optimizer.step()
      for (const p of layer.parameters()) expect((await numbers(p.value)).length).toBe(p.value.size)
      const { context } = tidy(() => layer.forward(x))
      layer.backward(context, random([3, 4], 3))
    })
  })
})

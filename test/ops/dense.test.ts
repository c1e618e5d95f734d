import { describe, expect, test } from 'vitest'
import { type DType, ops } from '../../lib/index.js'
import * as reference from '../reference/dense.js'
import { expectClose, magnitude } from '../support/close.js'
import { onEveryDevice } from '../support/devices.js'
import { expectSlope, inner } from '../support/differences.js'
import { errorOf } from '../support/errors.js'
import { draw, drawRounded, integers } from '../support/random.js'

onEveryDevice((device) => {
  describe('linear', () => {
    const sizes = [
      [1, 1, 1],
      [1, 100, 70],
      [2, 3, 5],
      [3, 700, 33],
      [4, 17, 1],
      [5, 1, 40],
      [6, 31, 32],
      [12, 32, 33],
      [13, 64, 31],
      [47, 5, 65],
      [48, 384, 64],
      [50, 385, 96],
      [130, 800, 130],
      [300, 20, 257],
      [24, 48, 330],
      [90, 641, 2],
      [200, 700, 300],
    ] as const
    test.each(sizes)(
      '%i x %i -> %i equals the reference, forward and backward',
      async (R, I, O) => {
        const x = draw(device, [R, I], 1)
        const weight = draw(device, [O, I], 2)
        const bias = draw(device, [O], 3)
        const dy = draw(device, [R, O], 4)
        expectClose(
          'y',
          await ops.linear(x.tensor, weight.tensor, bias.tensor).data(),
          reference.linear(x.data, weight.data, bias.data, R, I, O),
          2e-6,
        )
        expectClose(
          'y without bias',
          await ops.linear(x.tensor, weight.tensor).data(),
          reference.linear(x.data, weight.data, undefined, R, I, O),
          2e-6,
        )
        const { dx, dWeight, dBias } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
        const wanted = reference.linearBackward(dy.data, x.data, weight.data, R, I, O)
        expectClose('dx', await dx.data(), wanted.dx, 2e-6)
        expectClose('dWeight', await dWeight.data(), wanted.dWeight, 2e-6)
        expectClose('dBias', await dBias.data(), wanted.dBias, 2e-6)
      },
    )

    describe.each<DType>(['float16', 'bfloat16'])('%s operands', (dtype) => {
      test.each(sizes)(
        '%i x %i -> %i equals the reference on the rounded numbers',
        async (R, I, O) => {
          const x = await drawRounded(device, [R, I], 1, dtype)
          const weight = await drawRounded(device, [O, I], 2, dtype)
          const bias = draw(device, [O], 3)
          const dy = draw(device, [R, O], 4)
          const y = ops.linear(x.tensor, weight.tensor, bias.tensor)
          expect(y.dtype).toBe('float32')
          expectClose(
            'y',
            await y.data(),
            reference.linear(x.data, weight.data, bias.data, R, I, O),
            2e-6,
          )
          const { dx, dWeight, dBias } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
          const wanted = reference.linearBackward(dy.data, x.data, weight.data, R, I, O)
          expectClose('dx', await dx.data(), wanted.dx, 2e-6)
          expectClose('dWeight', await dWeight.data(), wanted.dWeight, 2e-6)
          expectClose('dBias', await dBias.data(), wanted.dBias, 2e-6)
        },
      )
    })

    test.runIf(device.kind === 'cpu')('a weight that is packed in several parts', async () => {
      const [R, I, O] = [25, 1500, 2100]
      const x = draw(device, [R, I], 1)
      const weight = draw(device, [O, I], 2)
      expectClose(
        'y',
        await ops.linear(x.tensor, weight.tensor).data(),
        reference.linear(x.data, weight.data, undefined, R, I, O),
        2e-6,
      )
    })

    test('the same bits in every run, with the inner dimension cut into pieces', async () => {
      const x = draw(device, [3000, 20], 1)
      const weight = draw(device, [30, 20], 2)
      const dy = draw(device, [3000, 30], 3)
      const run = () => ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
      const [one, two] = [run(), run()]
      const wanted = reference.linearBackward(dy.data, x.data, weight.data, 3000, 20, 30)
      expectClose('dWeight', await one.dWeight.data(), wanted.dWeight, 1e-5)
      expectClose('dBias', await one.dBias.data(), wanted.dBias, 1e-5)
      expect(await two.dWeight.data()).toEqual(await one.dWeight.data())
      expect(await two.dBias.data()).toEqual(await one.dBias.data())
    })

    test('gradients are slopes', async () => {
      const [R, I, O] = [3, 4, 5]
      const x = draw(device, [R, I], 1)
      const weight = draw(device, [O, I], 2)
      const dy = draw(device, [R, O], 4)
      const { dx, dWeight } = ops.linearBackward(dy.tensor, x.tensor, weight.tensor)
      expectSlope(
        'dx',
        await dx.data(),
        (v) => inner(dy.data, reference.linear(v, weight.data, undefined, R, I, O)),
        x.data,
      )
      expectSlope(
        'dWeight',
        await dWeight.data(),
        (v) => inner(dy.data, reference.linear(x.data, v, undefined, R, I, O)),
        weight.data,
      )
    })

    test('into adds, needs leaves out, empty sizes give zeros or the bias', async () => {
      const x = draw(device, [5, 6], 1)
      const weight = draw(device, [7, 6], 2)
      const dy = draw(device, [5, 7], 3)
      const into = device.tensor(new Float32Array(42).fill(1), [7, 6])
      const r = ops.linearBackward(dy.tensor, x.tensor, weight.tensor, {
        needs: { x: false, bias: false },
        into: { weight: into },
      })
      expect(Object.keys(r)).toEqual(['dWeight'])
      expect(r.dWeight).toBe(into)
      expectClose(
        'added',
        await into.data(),
        reference.linearBackward(dy.data, x.data, weight.data, 5, 6, 7).dWeight.map((v) => v + 1),
        1e-6,
      )
      expect(
        await ops
          .linear(device.zeros([2, 0]), device.zeros([3, 0]), device.tensor([1, 2, 3]))
          .data(),
      ).toEqual(Float32Array.from([1, 2, 3, 1, 2, 3]))
      expect((await ops.linear(device.zeros([0, 4]), device.zeros([3, 4])).data()).length).toBe(0)
    })

    test('NaN and Infinity stay in their row', async () => {
      const x = draw(device, [20, 9], 1)
      x.data[5 * 9] = Number.NaN
      const y = await ops
        .linear(device.tensor(x.data, [20, 9]), draw(device, [33, 9], 2).tensor)
        .data()
      for (let r = 0; r < 20; r++)
        expect(y.slice(r * 33, r * 33 + 33).every(r === 5 ? Number.isNaN : Number.isFinite)).toBe(
          true,
        )
    })

    test('errors', async () => {
      await errorOf('ERR_SHAPE', () => ops.linear(device.zeros([2, 3]), device.zeros([4, 5])))
      await errorOf('ERR_SHAPE', () =>
        ops.linear(device.zeros([2, 3]), device.zeros([4, 3]), device.zeros([3])),
      )
      await errorOf('ERR_SHAPE', () => ops.linear(device.zeros([3]), device.zeros([4, 3])))
      await errorOf('ERR_DTYPE', () =>
        ops.linear(device.zeros([2, 3], 'bfloat16'), device.zeros([4, 3])),
      )
      await errorOf('ERR_DTYPE', () =>
        ops.linear(device.zeros([2, 3], 'bfloat16'), device.zeros([4, 3], 'float16')),
      )
      await errorOf('ERR_DTYPE', () =>
        ops.linear(device.zeros([2, 3], 'int8'), device.zeros([4, 3], 'int8')),
      )
      await errorOf('ERR_SHAPE', () =>
        ops.linearBackward(device.zeros([2, 5]), device.zeros([2, 3]), device.zeros([4, 3])),
      )
    })
  })

  describe.each(Object.keys(reference.activations) as (keyof typeof reference.activations)[])(
    '%s',
    (name) => {
      const { f, derivative } = reference.activations[name]
      const points = Float32Array.from({ length: 4001 }, (_, i) => (i - 2000) / 160)

      test('value and derivative equal the reference over the whole range', async () => {
        const x = device.tensor(points)
        const y = await ops[name](x).data()
        const dy = device.tensor(new Float32Array(points.length).fill(1))
        const dx = await ops[`${name}Backward`](dy, x).data()
        for (const [i, p] of points.entries()) {
          // exp(-x^2 / 2) can't be better than the rounding of its exponent.
          const tolerance = 3e-6 + 6e-8 * p * p
          const far = (got: number, wanted: number) =>
            !(Math.abs(got - wanted) <= tolerance * Math.abs(wanted) + 1e-37)
          if (far(y[i]!, f(p))) expect.fail(`${name}(${p}) is ${y[i]}, wanted ${f(p)}`)
          // A derivative near its zero crossing is a difference of two numbers near 1: absolute
          // there.
          if (
            !(
              Math.abs(dx[i]! - derivative(p)) <=
              tolerance * Math.max(Math.abs(derivative(p)), Math.min(1, Math.abs(f(p)))) + 1e-37
            )
          ) {
            expect.fail(`${name}'(${p}) is ${dx[i]}, wanted ${derivative(p)}`)
          }
        }
      })

      test('the ends: infinities, NaN, zero', async () => {
        const y = await ops[name](
          device.tensor([Infinity, -Infinity, Number.NaN, 0, 1e30, -1e30]),
        ).data()
        expect(y[0]).toBe(name === 'sigmoid' ? 1 : Infinity)
        expect(Math.abs(y[1]!)).toBe(0)
        expect(y[2]).toBeNaN()
        expect(y[3]).toBe(f(0))
        expect(Math.abs(y[5]!)).toBe(0)
        const dx = await ops[`${name}Backward`](
          device.tensor([1, 1, 1]),
          device.tensor([Infinity, -Infinity, Number.NaN]),
        ).data()
        expect(Math.abs(dx[0]!)).toBe(name === 'sigmoid' ? 0 : 1)
        expect(Math.abs(dx[1]!)).toBe(0)
        expect(dx[2]).toBeNaN()
      })
    },
  )

  describe('gates', () => {
    test('siluGate and sigmoidGate equal the reference, with slopes for gradients', async () => {
      for (const [R, V] of [
        [1, 1],
        [3, 5],
        [4, 16],
        [7, 33],
        [2, 1000],
        [3, 9000],
      ] as const) {
        const y = draw(device, [R, V], 1)
        const a = draw(device, [R, V], 2)
        const d = draw(device, [R, V], 3)
        const g = draw(device, [R, 1], 4)
        const silu = (yv: ArrayLike<number>, av: ArrayLike<number>) =>
          Float64Array.from({ length: R * V }, (_, i) => yv[i]! * reference.silu(4 * av[i]! - 1))
        const scaled = a.data.map((v) => 4 * v - 1)
        const at = device.tensor(scaled, [R, V])
        expectClose('z', await ops.siluGate(y.tensor, at).data(), silu(y.data, a.data), 2e-6)
        const { dy, da } = ops.siluGateBackward(d.tensor, y.tensor, at)
        expectClose(
          'dy',
          await dy.data(),
          Float64Array.from(d.data, (v, i) => v * reference.silu(scaled[i]!)),
          2e-6,
        )
        expectClose(
          'da',
          await da.data(),
          Float64Array.from(
            d.data,
            (v, i) => v * y.data[i]! * reference.activations.silu.derivative(scaled[i]!),
          ),
          2e-6,
        )
        const gated = (yv: ArrayLike<number>, gv: ArrayLike<number>) =>
          Float64Array.from(
            { length: R * V },
            (_, i) => yv[i]! * reference.sigmoid(gv[Math.floor(i / V)]!),
          )
        expectClose(
          'out',
          await ops.sigmoidGate(y.tensor, g.tensor).data(),
          gated(y.data, g.data),
          2e-6,
        )
        const back = ops.sigmoidGateBackward(d.tensor, y.tensor, g.tensor)
        const slopes = Array.from(g.data, (v) => reference.sigmoid(v))
        expectClose(
          'gate dy',
          await back.dy.data(),
          Float64Array.from(d.data, (v, i) => v * slopes[Math.floor(i / V)]!),
          2e-6,
        )
        const dg = slopes.map(
          (s, r) =>
            s * (1 - s) * inner(d.data.slice(r * V, r * V + V), y.data.slice(r * V, r * V + V)),
        )
        expectClose('gate dg', await back.dg.data(), dg, 2e-6, V / 8)
        if (V < 100) {
          expectSlope(
            'gate dy',
            await back.dy.data(),
            (v) => inner(d.data, gated(v, g.data)),
            y.data,
          )
          expectSlope(
            'gate dg',
            await back.dg.data(),
            (v) => inner(d.data, gated(y.data, v)),
            g.data,
          )
        }
      }
      await errorOf('ERR_SHAPE', () => ops.siluGate(device.zeros([2, 3]), device.zeros([3, 2])))
      await errorOf('ERR_SHAPE', () => ops.sigmoidGate(device.zeros([2, 3]), device.zeros([2, 3])))
    })
  })

  describe('softmax', () => {
    test.each([1, 2, 15, 16, 17, 250, 1000, 1025, 5000, 17000, 33000])(
      'rows of %i equal the reference; the gradient is the slope',
      async (n) => {
        const x = draw(device, [3, n], n)
        const big = x.data.map((v) => v * 20)
        const y = ops.softmax(device.tensor(big, [3, n]))
        expectClose('y', await y.data(), reference.softmax(big, n), 5e-6)
        const dy = draw(device, [3, n], n + 1)
        const dx = await ops.softmaxBackward(dy.tensor, ops.softmax(x.tensor)).data()
        expectClose(
          'dx',
          dx,
          reference.softmaxBackward(dy.data, reference.softmax(x.data, n), n),
          5e-6,
          magnitude(dy.data) / n,
        )
        if (n > 100) return
        expectSlope('dx', dx, (v) => inner(dy.data, reference.softmax(v, n)), x.data, 2e-5)
      },
    )

    test('huge scores do not overflow, -Infinity has no weight, NaN makes its row NaN', async () => {
      const y = await ops
        .softmax(device.tensor([3e38, 0, -3e38, -Infinity, 1, 1, Number.NaN, 1, 1], [3, 3]))
        .data()
      expect(Array.from(y.slice(0, 6))).toEqual([1, 0, 0, 0, 0.5, 0.5])
      expect(y.slice(6).every(Number.isNaN)).toBe(true)
    })

    // However the row is shared out: what is far from the rest, NaN and infinities work alike.
    test.each([9, 900, 2000, 12000, 40000])(
      'rows of %i that begin with -Infinity, and rows of nothing else',
      async (n) => {
        const x = new Float32Array(6 * n).fill(-Infinity)
        x.fill(2, n - 4, n - 2) // row 0: weights at its end alone
        x.set([3e38], 2 * n - 1)
        x.set([Number.POSITIVE_INFINITY], 2 * n + 5)
        x.set([1, Number.NaN], 4 * n - 3)
        x.fill(Number.NaN, 5 * n)
        const y = await ops.softmax(device.tensor(x, [6, n])).data()
        const loss = await ops
          .crossEntropy(
            device.tensor(x, [6, n]),
            device.tensor(Int32Array.from([n - 3, n - 1, 0, 0, 0, -1])),
          )
          .data()
        expect(
          Array.from(y.slice(0, n)).every((v, i) => v === (i === n - 4 || i === n - 3 ? 0.5 : 0)),
        ).toBe(true)
        expect(Array.from(y.slice(n, 2 * n)).every((v, i) => v === (i === n - 1 ? 1 : 0))).toBe(
          true,
        )
        expect(y.slice(2 * n).every(Number.isNaN)).toBe(true)
        expect(loss[0]).toBeCloseTo(Math.log(2), 6)
        expect(Array.from(loss.slice(1))).toEqual([0, Number.NaN, Number.NaN, Number.NaN, 0])
      },
    )
  })

  describe('rmsNorm', () => {
    test.each([1, 2, 16, 17, 64, 333, 2050, 5000, 17000, 33000])('rows of %i', async (n) => {
      const x = draw(device, [9, n], n)
      const gain = draw(device, [n], n + 1)
      const dy = draw(device, [9, n], n + 2)
      expectClose(
        'y',
        await ops.rmsNorm(x.tensor, gain.tensor).data(),
        reference.rmsNorm(x.data, gain.data, n, 1e-6),
        3e-6,
      )
      expectClose(
        'y without gain',
        await ops.rmsNorm(x.tensor, undefined, { eps: 0.1 }).data(),
        reference.rmsNorm(x.data, undefined, n, 0.1),
        3e-6,
      )
      const { dx, dGain } = ops.rmsNormBackward(dy.tensor, x.tensor, gain.tensor, { eps: 0.01 })
      const wanted = reference.rmsNormBackward(dy.data, x.data, gain.data, n, 0.01)
      expectClose('dx', await dx.data(), wanted.dx, 3e-6)
      expectClose('dGain', await dGain!.data(), wanted.dGain, 3e-6)
      if (n > 100) return
      expectSlope(
        'dx',
        await dx.data(),
        (v) => inner(dy.data, reference.rmsNorm(v, gain.data, n, 0.01)),
        x.data,
        3e-5,
      )
      expectSlope(
        'dGain',
        await dGain!.data(),
        (v) => inner(dy.data, reference.rmsNorm(x.data, v, n, 0.01)),
        gain.data,
        3e-5,
      )
    })

    test('many rows add up to the same dGain in every run', async () => {
      const x = draw(device, [5000, 7], 1)
      const dy = draw(device, [5000, 7], 2)
      const gain = device.tensor([1, 1, 1, 1, 1, 1, 1])
      const run = () => ops.rmsNormBackward(dy.tensor, x.tensor, gain).dGain!.data()
      expect(await run()).toEqual(await run())
      await errorOf('ERR_SHAPE', () => ops.rmsNorm(x.tensor, device.zeros([6])))
      expect(
        await errorOf('ERR_OPTION', () => ops.rmsNorm(x.tensor, gain, { epsilon: 1 } as never)),
      ).toMatch(/eps/)
    })
  })

  describe('crossEntropy', () => {
    test.each([1, 2, 16, 17, 242, 1000, 3001, 9000, 33000])('%i classes', async (C) => {
      const logits = draw(device, [6, C], C)
      const big = logits.data.map((v) => v * 10)
      const targets = integers(6, 0, C, C)
      targets[2] = -1
      const t = device.tensor(targets)
      expectClose(
        'loss',
        await ops.crossEntropy(device.tensor(big, [6, C]), t).data(),
        reference.crossEntropy(big, targets, C),
        3e-6,
        Math.max(1, magnitude(big)),
      )
      const dLoss = draw(device, [6], 2)
      const dx = await ops.crossEntropyBackward(dLoss.tensor, logits.tensor, t).data()
      const probabilities = reference.softmax(logits.data, C)
      const wanted = Float64Array.from(dx, (_, i) => {
        const row = Math.floor(i / C)
        return targets[row]! < 0
          ? 0
          : dLoss.data[row]! * (probabilities[i]! - (i % C === targets[row] ? 1 : 0))
      })
      expectClose('dLogits', dx, wanted, 2e-6)
      if (C < 100)
        expectSlope(
          'dLogits',
          dx,
          (v) => inner(dLoss.data, reference.crossEntropy(v, targets, C)),
          logits.data,
          2e-5,
        )
      expect(dx.slice(2 * C, 3 * C).every((v) => v === 0)).toBe(true)
    })

    test('ignored tokens of no classes, or of classes without a number, have no loss and no gradient', async () => {
      const none = device.tensor(Int32Array.from([-1, -1]))
      expect(Array.from(await ops.crossEntropy(device.zeros([2, 0]), none).data())).toEqual([0, 0])
      const logits = device.tensor(new Float32Array(2000).fill(Number.NaN), [2, 1000])
      const dx = await ops.crossEntropyBackward(device.tensor([1, 1]), logits, none).data()
      expect(dx.every((v) => v === 0)).toBe(true)
    })

    test('a target out of range is found before anything is written', async () => {
      const logits = draw(device, [3, 4], 1).tensor
      for (const bad of [4, -2]) {
        const targets = device.tensor(Int32Array.from([0, bad, 1]))
        expect(
          await errorOf('ERR_INDEX_RANGE', () => ops.crossEntropy(logits, targets).data()),
        ).toMatch(`"targets"[1] is ${bad}, outside [0, 4)`)
        await errorOf('ERR_INDEX_RANGE', () =>
          ops.crossEntropyBackward(device.zeros([3]), logits, targets).data(),
        )
      }
      await errorOf('ERR_SHAPE', () => ops.crossEntropy(logits, device.zeros([4], 'int32')))
      await errorOf('ERR_DTYPE', () => ops.crossEntropy(logits, device.zeros([3])))
    })
  })

  test('add, with factors and in place', async () => {
    const x = draw(device, [1001], 1)
    const y = draw(device, [1001], 2)
    expectClose(
      'sum',
      await ops.add(x.tensor, y.tensor, { alpha: 2, beta: -0.5 }).data(),
      x.data.map((v, i) => 2 * v - 0.5 * y.data[i]!),
      1e-6,
    )
    ops.add(x.tensor, y.tensor, { out: x.tensor })
    expectClose(
      'in place',
      await x.tensor.data(),
      x.data.map((v, i) => v + y.data[i]!),
      1e-6,
    )
    await errorOf('ERR_SHAPE', () => ops.add(x.tensor, device.zeros([1000])))
    await errorOf('ERR_DEVICE_MISMATCH', async () =>
      ops.add(x.tensor, (await import('../../lib/index.js')).openDevice('cpu').zeros([1001])),
    )
  })
})

// out[r, :] = sigmoid(g[r]) * y[r, :] for rows of V, in float64.

import { sigmoid } from './activation.js'

export function sigmoidGate(y: ArrayLike<number>, g: ArrayLike<number>, V: number): Float64Array {
  return Float64Array.from(y, (v, i) => v * sigmoid(g[Math.floor(i / V)]!))
}

export function sigmoidGateBackward(
  dOut: ArrayLike<number>,
  y: ArrayLike<number>,
  g: ArrayLike<number>,
  V: number,
) {
  const dy = new Float64Array(y.length)
  const dg = new Float64Array(g.length)
  for (let r = 0; r < g.length; r++) {
    const s = sigmoid(g[r]!)
    for (let i = r * V; i < (r + 1) * V; i++) {
      dy[i] = dOut[i]! * s
      dg[r]! += dOut[i]! * y[i]! * s * (1 - s)
    }
  }
  return { dy, dg }
}

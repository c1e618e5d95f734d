// z = y * silu(a), elementwise, in float64.

import { activations } from './activation.js'

const { f: silu, derivative } = activations.silu

export function siluGate(y: ArrayLike<number>, a: ArrayLike<number>): Float64Array {
  return Float64Array.from(y, (v, i) => v * silu(a[i]!))
}

export function siluGateBackward(
  dz: ArrayLike<number>,
  y: ArrayLike<number>,
  a: ArrayLike<number>,
) {
  return {
    dy: Float64Array.from(dz, (d, i) => d * silu(a[i]!)),
    da: Float64Array.from(dz, (d, i) => d * y[i]! * derivative(a[i]!)),
  }
}

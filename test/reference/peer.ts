// out[t] = sum_l w f(u) up, u = <x, down>: float64 loops.

import { activations } from './activation.js'

export interface PeerShape {
  T: number
  L: number
  C: number
  O: number
}

type Name = keyof typeof activations

export function peer(
  x: ArrayLike<number>,
  down: ArrayLike<number>,
  up: ArrayLike<number>,
  indices: ArrayLike<number>,
  weights: ArrayLike<number>,
  s: PeerShape,
  name: Name,
) {
  const out = new Float64Array(s.T * s.O)
  const u = new Float64Array(s.T * s.L)
  for (let t = 0; t < s.T; t++)
    for (let l = 0; l < s.L; l++) {
      const entry = t * s.L + l
      const index = indices[entry]!
      if (index < 0) continue
      for (let c = 0; c < s.C; c++) u[entry]! += x[t * s.C + c]! * down[index * s.C + c]!
      const h = weights[entry]! * activations[name].f(u[entry]!)
      for (let o = 0; o < s.O; o++) out[t * s.O + o]! += h * up[index * s.O + o]!
    }
  return { out, u }
}

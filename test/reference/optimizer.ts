// What the update rules of native/optim have in common, in float64.

export interface Hyper {
  lr: number
  weightDecay?: number
  eps?: number
  betas?: readonly [number, number]
}

/** A row of a parameter, its gradient and its state, all of one width. */
export interface Row {
  x: Float64Array
  g: Float64Array
  /** First moment. */
  m: Float64Array
  /** Second moment, or sum of squares. */
  v: Float64Array
}

/** Updates a row in place; `step` counts from 1. */
export type Rule = (row: Row, hyper: Hyper, step: number) => void

/** A parameter or table with its state. */
export class OptimizedParameter {
  readonly #m: Float64Array
  readonly #v: Float64Array

  constructor(
    readonly x: Float64Array,
    readonly width: number,
  ) {
    this.#m = new Float64Array(x.length)
    this.#v = new Float64Array(x.length)
  }

  get rows(): number {
    return this.x.length / this.width
  }

  update(
    rule: Rule,
    gradient: ArrayLike<number>,
    hyper: Hyper,
    step: number,
    rows: Iterable<number>,
  ): void {
    const g = Float64Array.from(gradient)
    for (const r of rows) {
      const row = (a: Float64Array) => a.subarray(r * this.width, (r + 1) * this.width)
      rule({ x: row(this.x), g: row(g), m: row(this.#m), v: row(this.#v) }, hyper, step)
    }
  }
}

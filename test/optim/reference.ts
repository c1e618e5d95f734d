// The update rules of kernels.md, section 5, in float64: slow and plain.

export interface Hyper {
  lr: number
  weightDecay?: number
  eps?: number
  betas?: readonly [number, number]
}

/** One parameter (or table) with its state; `width` is the length of a row. */
export class Reference {
  readonly m: Float64Array
  readonly v: Float64Array
  step = 0

  constructor(
    readonly x: Float64Array,
    readonly width: number,
  ) {
    this.m = new Float64Array(x.length)
    this.v = new Float64Array(x.length)
  }

  /** Updates the rows given; the caller counts `step`. */
  update(
    rule: 'sgd' | 'adagrad' | 'rowwise' | 'adamw',
    g: ArrayLike<number>,
    h: Hyper,
    rows: Iterable<number>,
  ): void {
    const { lr, weightDecay = 0, eps = 1e-10, betas = [0.9, 0.999] } = h
    for (const row of rows) {
      const places = Array.from({ length: this.width }, (_, c) => row * this.width + c)
      const mean = places.reduce((sum, i) => sum + g[i]! ** 2, 0) / this.width
      for (const i of places) {
        const decayed = this.x[i]! * (1 - lr * weightDecay)
        if (rule === 'sgd') this.x[i] = decayed - lr * g[i]!
        else if (rule === 'adamw') {
          this.m[i] = betas[0] * this.m[i]! + (1 - betas[0]) * g[i]!
          this.v[i] = betas[1] * this.v[i]! + (1 - betas[1]) * g[i]! ** 2
          const m = this.m[i]! / (1 - betas[0] ** this.step)
          const v = this.v[i]! / (1 - betas[1] ** this.step)
          this.x[i] = decayed - (lr * m) / (Math.sqrt(v) + eps)
        } else {
          this.v[i]! += rule === 'rowwise' ? mean : g[i]! ** 2
          this.x[i] = decayed - (lr * g[i]!) / (Math.sqrt(this.v[i]!) + eps)
        }
      }
    }
  }
}

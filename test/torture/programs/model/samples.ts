// Numbers of the interpreter come in samples: the first is float64 as it is; in the others each
// number is perturbed wherever the device rounds. How far the samples are apart says how far the
// device may be from the first, through any chain of operations: no bound has to be derived.

export const sampleCount = 5

/** One array for each sample. */
export type Samples = readonly Float64Array[]

// Of a float32 result that is summed from some ten terms.
const float32Noise = 2 ** -21

/** The rounding of a 16-bit dtype, in half a unit of the last place. */
export const halfNoise = { float16: 2 ** -11, bfloat16: 2 ** -8 } as const

/** Perturbs numbers: the same for a seed. */
export class Noise {
  #state: number

  constructor(seed: number) {
    this.#state = (seed ^ 0x2545f491) >>> 0 || 1
  }

  /** In [-1, 1). */
  next(): number {
    this.#state ^= this.#state << 13
    this.#state ^= this.#state >>> 17
    this.#state ^= this.#state << 5
    return (this.#state >>> 0) / 2 ** 31 - 1
  }

  /** Sample 0 as it is, the others perturbed. */
  perturb(samples: Samples, relative = float32Noise): Float64Array[] {
    return samples.map((x, s) =>
      s === 0 ? Float64Array.from(x) : x.map((v) => v * (1 + relative * this.next())),
    )
  }

  /** `f` of each sample's arrays; what goes in and what comes out is perturbed. */
  map(inputs: readonly Samples[], f: (...arrays: Float64Array[]) => Float64Array): Samples {
    return this.mapAll(inputs, (...arrays) => [f(...arrays)])[0]!
  }

  /** The same for several results. */
  mapAll(inputs: readonly Samples[], f: (...arrays: Float64Array[]) => Float64Array[]): Samples[] {
    const noisy = inputs.map((input) => this.perturb(input))
    const results = Array.from({ length: sampleCount }, (_, s) => f(...noisy.map((n) => n[s]!)))
    return results[0]!.map((_, r) => this.perturb(results.map((result) => result[r]!)))
  }
}

/** The same exact numbers in every sample. */
export function exactly(values: ArrayLike<number>): Samples {
  return Array.from({ length: sampleCount }, () => Float64Array.from(values))
}

/** How far a number of the device may be from sample 0. */
export function tolerance(samples: Samples, i: number): number {
  const exact = samples[0]![i]!
  let spread = 0
  for (const sample of samples) spread = Math.max(spread, Math.abs(sample[i]! - exact))
  return 40 * spread + 1e-6 * Math.abs(exact) + 1e-30
}

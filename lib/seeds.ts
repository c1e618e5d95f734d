// Seeds of the modules that were given none.

/** Bijective on the integers of 32 bits: the finalizer of MurmurHash3. */
function mix(value: number): number {
  let h = value >>> 0
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/**
 * @internal A counter of seeds. A number is mixed, so that the seeds which modules derive from
 * theirs (a few above a small multiple) are those of no other module; two numbers never give the
 * same seed.
 */
export class Seeds {
  #first = 0
  #count = 0

  /** The next seed, an integer from 0 to 2^32 - 1. */
  next(): number {
    return mix(this.#first + this.#count++)
  }

  /** From now on the seeds are those that follow from `seed`, an integer from 0. */
  restart(seed: number): void {
    this.#first = mix(mix(seed) ^ Math.floor(seed / 2 ** 32) ^ 0x9e3779b9)
    this.#count = 0
  }

  /** Runs `build` with the seeds that follow from `seed`, if there is one, and then goes on. */
  within<T>(seed: number | undefined, build: () => T): T {
    if (seed === undefined) return this.#restoring(false, build)
    return this.#restoring(true, () => {
      this.restart(seed)
      return build()
    })
  }

  /** Runs `build` with `seed`, or with the next one: if it throws, none was drawn. */
  use<T>(seed: number | undefined, build: (seed: number) => T): T {
    return this.#restoring(false, () => build(seed ?? this.next()))
  }

  /** Runs `build`, after which the counter is as before: always, or if it throws. */
  #restoring<T>(always: boolean, build: () => T): T {
    const [first, count] = [this.#first, this.#count]
    let restore = true
    try {
      const result = build()
      restore = always
      return result
    } finally {
      if (restore) {
        this.#first = first
        this.#count = count
      }
    }
  }
}

// Choices from the bytes of a fuzzer; zeros when they are used up.

export class Bytes {
  #at = 0

  constructor(data) {
    this.data = data
  }

  get empty() {
    return this.#at >= this.data.length
  }

  byte() {
    return this.data[this.#at++] ?? 0
  }

  /** An integer in [0, n), for n up to 256. */
  below(n) {
    return this.byte() % n
  }

  of(choices) {
    return choices[this.below(choices.length)]
  }

  rest() {
    return this.data.subarray(this.#at)
  }
}

/** Throws what is not an error that the package documents. */
export function expectDocumented(ml, error) {
  if (error instanceof ml.MemoryLayersError && /^ERR_[A-Z_]+$/.test(error.code)) return
  throw error
}

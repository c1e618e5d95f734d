// Philox4x32-10 (Salmon et al. 2011): the four words of a counter of four words and a key of two.

const mask = 0xffffffffn

export function philox(
  counter: readonly [bigint, bigint, bigint, bigint],
  key: bigint,
): [number, number, number, number] {
  let [c0, c1, c2, c3] = counter
  let [k0, k1] = [key & mask, key >> 32n]
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c0
    const p1 = 0xcd9e8d57n * c2
    ;[c0, c1, c2, c3] = [(p1 >> 32n) ^ c1 ^ k0, p1 & mask, (p0 >> 32n) ^ c3 ^ k1, p0 & mask]
    k0 = (k0 + 0x9e3779b9n) & mask
    k1 = (k1 + 0xbb67ae85n) & mask
  }
  return [Number(c0), Number(c1), Number(c2), Number(c3)]
}

/** Of a random operation: use 1 is dropout, 2 is sampling. */
export function randomWords(counter: bigint, seed: number, step: number, use: number) {
  const [low, high] = [BigInt(step) & mask, BigInt(step) >> 32n]
  return philox([counter & mask, counter >> 32n, low, high | (BigInt(use) << 24n)], BigInt(seed))
}

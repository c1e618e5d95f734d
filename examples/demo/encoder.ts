// A name as numbers, by a frozen random projection of its character n-grams. Nothing here is
// trained and nothing is stored per name: what a model knows about a name is in the model.

export const width = 128

function hash(text: string, salt: number): number {
  let h = salt | 0
  for (let i = 0; i < text.length; i++) {
    h = Math.imul(h ^ text.charCodeAt(i), 0x01000193)
    h ^= h >>> 15
  }
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b)
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35)
  return (h ^ (h >>> 16)) >>> 0
}

/** Every 1- to 4-gram of the name between marks, and every character with its position. */
function features(name: string): string[] {
  const text = `^${name.normalize('NFC')}$`
  const list: string[] = []
  for (let n = 1; n <= 4; n++)
    for (let i = 0; i + n <= text.length; i++) list.push(`${n}:${text.slice(i, i + n)}`)
  for (let i = 1; i + 1 < text.length; i++) list.push(`@${i}:${text[i]}`)
  return list
}

/**
 * Rows `[names, width]` with root mean square 1: each feature adds ±1 to every column, by the bits
 * of its hashes.
 */
export function encode(names: readonly string[], seed: number): Float32Array {
  const out = new Float32Array(names.length * width)
  const signs = new Map<string, Uint32Array>()
  for (const [r, name] of names.entries()) {
    const row = out.subarray(r * width, (r + 1) * width)
    for (const feature of features(name)) {
      let words = signs.get(feature)
      if (!words) {
        words = Uint32Array.from({ length: width / 32 }, (_, w) =>
          hash(feature, seed * 31 + w * 0x9e3779b9),
        )
        signs.set(feature, words)
      }
      for (let c = 0; c < width; c++) row[c]! += (words[c >>> 5]! >>> (c & 31)) & 1 ? 1 : -1
    }
    let square = 0
    for (const v of row) square += v * v
    const scale = 1 / Math.sqrt(square / width)
    for (let c = 0; c < width; c++) row[c]! *= scale
  }
  return out
}

/** How many names have the encoding of another: a model can't tell them apart. */
export function collisions(rows: Float32Array): number {
  const seen = new Set<string>()
  const count = rows.length / width
  for (let r = 0; r < count; r++) seen.add(rows.subarray(r * width, r * width + 8).join())
  return count - seen.size
}

/** How deep values that are skipped may be nested. */
const maxDepth = 64

const number = /-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y

/**
 * Reads JSON text from front to back, as its caller expects it. Stricter than JSON.parse: integers
 * are exact or refused, names are well-formed Unicode, nesting is limited, and the caller sees
 * every field, also one that comes twice.
 */
export class JsonReader {
  readonly #text: string
  readonly #refuse: (reason: string) => never
  #at = 0

  /** `refuse` throws; it is given the reason. */
  constructor(text: string, refuse: (reason: string) => never) {
    this.#text = text
    this.#refuse = refuse
  }

  /** Takes what is between the braces of an object: yields each name, and the caller its value. */
  *fields(): Generator<string, void> {
    this.expect('{')
    if (this.take('}')) return
    do {
      const name = this.string()
      this.expect(':')
      yield name
    } while (this.take(','))
    this.expect('}')
  }

  /** Yields for each item of an array, which the caller takes. */
  *items(): Generator<void, void> {
    this.expect('[')
    if (this.take(']')) return
    do yield
    while (this.take(','))
    this.expect(']')
  }

  /** The next character after white space; '' at the end. */
  peek(): string {
    for (;;) {
      const c = this.#text[this.#at]
      if (c !== ' ' && c !== '\n' && c !== '\r' && c !== '\t') return c ?? ''
      this.#at++
    }
  }

  /** Whether the next character is `c`; takes it. */
  take(c: string): boolean {
    if (this.peek() !== c) return false
    this.#at++
    return true
  }

  expect(c: string): void {
    if (!this.take(c)) this.#unexpected(`"${c}"`)
  }

  /** Only white space is left. */
  end(): void {
    if (this.peek() !== '') this.#unexpected('its end')
  }

  string(): string {
    if (this.peek() !== '"') this.#unexpected('a string')
    const begin = this.#at
    let plain = true // neither escapes nor what JSON forbids
    for (;;) {
      const c = this.#text.charCodeAt(++this.#at)
      if (c === 0x22) break
      if (Number.isNaN(c)) this.#refuse('its header ends within a string')
      if (c < 0x20 || c === 0x5c) plain = false
      if (c === 0x5c) this.#at++
    }
    this.#at++
    return plain ? this.#text.slice(begin + 1, this.#at - 1) : this.#unescape(begin)
  }

  #unescape(begin: number): string {
    let value = ''
    try {
      value = JSON.parse(this.#text.slice(begin, this.#at))
    } catch {
      this.#refuse(`its header has a malformed string at character ${begin}`)
    }
    if (!isWellFormed(value))
      this.#refuse(`its header has half of a surrogate pair in the string at character ${begin}`)
    return value
  }

  /** An integer from 0 to 2^53 - 1, written as digits; undefined for anything else. */
  integer(): number | undefined {
    this.peek()
    let end = this.#at
    while (isDigit(this.#text.charCodeAt(end))) end++
    const digits = this.#text.slice(this.#at, end)
    const value = digits.length > 16 ? Infinity : Number(digits)
    const whole = !/[.eE]/.test(this.#text[end] ?? '')
    if (digits === '' || !whole || !Number.isSafeInteger(value)) return undefined
    if (digits.length > 1 && digits[0] === '0') return undefined
    this.#at = end
    return value
  }

  /** Takes any value. */
  skip(depth = 0): void {
    if (depth > maxDepth) this.#refuse(`its header nests more than ${maxDepth} values`)
    const c = this.peek()
    if (c === '{') for (const _ of this.fields()) this.skip(depth + 1)
    else if (c === '[') for (const _ of this.items()) this.skip(depth + 1)
    else if (c === '"') this.string()
    else this.#at += this.#literalLength()
  }

  #literalLength(): number {
    for (const word of ['true', 'false', 'null'])
      if (this.#text.startsWith(word, this.#at)) return word.length
    number.lastIndex = this.#at
    return number.exec(this.#text)?.[0].length ?? this.#unexpected('a value')
  }

  #unexpected(wanted: string): never {
    const found = this.#at < this.#text.length ? JSON.stringify(this.#text[this.#at]) : 'the end'
    this.#refuse(`its header has ${found} at character ${this.#at} instead of ${wanted}`)
  }
}

function isDigit(c: number): boolean {
  return c >= 0x30 && c <= 0x39
}

/** Whether every surrogate is one of a pair: text that UTF-8 can hold. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text)
}

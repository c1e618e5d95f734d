import { isObject } from '../describe.js'
import { isNumericData, type NumericData, readNumbers } from '../encode.js'
import { fail } from '../errors.js'

/**
 * What turns text into tokens and back: `gpt-tokenizer` and `@huggingface/tokenizers` fit, whose
 * `encode` returns the tokens or an object with the tokens as `ids`.
 */
export interface Tokenizer {
  /** The tokens of a text. */
  encode(text: string): ArrayLike<number> | { ids: ArrayLike<number> }
  /** The text of tokens. */
  decode(tokens: number[]): string
}

/** Calls `encode` and checks what it returns. @throws ERR_VALUE */
export function encodeText(where: string, tokenizer: Tokenizer, text: string): NumericData {
  const result: unknown = tokenizer.encode(text)
  const ids = isObject(result) && 'ids' in result ? result.ids : result
  if (isNumericData(ids)) return ids
  const hint = 'It must return an array of tokens, or an object with such an array as "ids".'
  fail('ERR_VALUE', where, 'tokenizer.encode', 'return tokens', result, hint)
}

export function checkTokenizer(where: string, value: unknown): Tokenizer {
  const { encode, decode } = (isObject(value) ? value : {}) as Partial<Tokenizer>
  if (typeof encode !== 'function' || typeof decode !== 'function')
    fail('ERR_VALUE', where, 'tokenizer', 'have encode() and decode()', value)
  return value as Tokenizer
}

/**
 * One token for each character of a text: the smallest tokenizer there is.
 *
 * ```ts
 * import { CharacterTokenizer } from 'memory-layers/nn'
 *
 * const tokenizer = new CharacterTokenizer('to be or not to be')
 * const tokens = tokenizer.encode('not')
 * console.log(tokenizer.vocabSize, tokens, tokenizer.decode(tokens))
 * ```
 */
export class CharacterTokenizer implements Tokenizer {
  /** In the order of their code points; a character's token is its index here. */
  readonly characters: readonly string[]
  readonly #tokens: ReadonlyMap<string, number>

  /** @param text whose characters are known @throws ERR_VALUE */
  constructor(text: string) {
    if (typeof text !== 'string' || text === '')
      fail('ERR_VALUE', 'CharacterTokenizer', 'text', 'be a string with characters', text)
    this.characters = [...new Set(text)].sort((a, b) => a.codePointAt(0)! - b.codePointAt(0)!)
    this.#tokens = new Map(this.characters.map((character, i) => [character, i]))
  }

  /** How many tokens there are. */
  get vocabSize(): number {
    return this.characters.length
  }

  /** @throws ERR_VALUE for a character that is not known */
  encode(text: string): number[] {
    if (typeof text !== 'string')
      fail('ERR_VALUE', 'CharacterTokenizer.encode', 'text', 'be a string', text)
    return Array.from(text, (character) => {
      const token = this.#tokens.get(character)
      if (token === undefined)
        fail('ERR_VALUE', 'CharacterTokenizer.encode', 'text', 'have known characters', character)
      return token
    })
  }

  /** The text of tokens. @throws ERR_VALUE */
  decode(tokens: ArrayLike<number>): string {
    const where = 'CharacterTokenizer.decode'
    const { values, length } = readNumbers(where, 'tokens', tokens)
    return Array.from({ length }, (_, i) => {
      const token = values[i]
      const character = typeof token === 'number' ? this.characters[token] : undefined
      if (character === undefined)
        fail('ERR_VALUE', where, 'tokens', `be from 0 to ${this.vocabSize - 1}`, token)
      return character
    }).join('')
  }
}

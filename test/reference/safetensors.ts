// The safetensors header by its specification, written apart from lib/: JSON is parsed to a tree
// that keeps every member and the text of every number, and the rules are checked on the tree, with
// BigInt.

type Json =
  | { kind: 'object'; members: [string, Json][] }
  | { kind: 'array'; items: Json[] }
  | { kind: 'string'; value: string }
  | { kind: 'other'; text: string }

class Invalid extends Error {}

function check(condition: boolean, reason: string): asserts condition {
  if (!condition) throw new Invalid(reason)
}

const string = String.raw`"(?:[^"\\\x00-\x1f]|\\["\\/bfnrt]|\\u[0-9a-fA-F]{4})*"`
const number = String.raw`-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?`
const token = new RegExp(`[ \\t\\n\\r]*([{}[\\]:,]|${string}|${number}|true|false|null)`, 'y')

function tokensOf(text: string): string[] {
  const tokens: string[] = []
  const body = text.replace(/[ \t\n\r]+$/, '')
  token.lastIndex = 0
  for (let at = 0; at < body.length; at = token.lastIndex) {
    const match = token.exec(body)
    check(match !== null, `no token at ${at}`)
    tokens.push(match[1]!)
  }
  return tokens
}

function parse(tokens: string[]): Json {
  const first = tokens.shift()
  check(first !== undefined, 'the end')
  if (first === '{') {
    const members: [string, Json][] = []
    while (tokens[0] !== '}') {
      if (members.length > 0) check(tokens.shift() === ',', 'no comma')
      const name = parse(tokens)
      check(name.kind === 'string' && tokens.shift() === ':', 'no name')
      members.push([name.value, parse(tokens)])
    }
    tokens.shift()
    return { kind: 'object', members }
  }
  if (first === '[') {
    const items: Json[] = []
    while (tokens[0] !== ']') {
      if (items.length > 0) check(tokens.shift() === ',', 'no comma')
      items.push(parse(tokens))
    }
    tokens.shift()
    return { kind: 'array', items }
  }
  check(!/^[\]}:,]/.test(first), 'punctuation')
  if (first[0] !== '"') return { kind: 'other', text: first }
  const value: string = JSON.parse(first)
  check(Buffer.from(value).toString() === value, 'half of a surrogate pair')
  return { kind: 'string', value }
}

function depth(json: Json): number {
  if (json.kind === 'object') return 1 + Math.max(0, ...json.members.map(([, v]) => depth(v)))
  if (json.kind === 'array') return 1 + Math.max(0, ...json.items.map(depth))
  return 0
}

function unique<T>(members: readonly [string, T][]): Map<string, T> {
  const map = new Map(members)
  check(map.size === members.length, 'a name that comes twice')
  return map
}

const bitsOf: Record<string, bigint> = {
  ...{ BOOL: 8n, F4: 4n, F6_E2M3: 6n, F6_E3M2: 6n, U8: 8n, I8: 8n, F8_E5M2: 8n, F8_E4M3: 8n },
  ...{ F8_E8M0: 8n, F8_E4M3FNUZ: 8n, F8_E5M2FNUZ: 8n, I16: 16n, U16: 16n, F16: 16n, BF16: 16n },
  ...{ I32: 32n, U32: 32n, F32: 32n, C64: 64n, F64: 64n, I64: 64n, U64: 64n },
}

function sizes(json: Json | undefined): bigint[] {
  check(json?.kind === 'array', 'no array')
  return json.items.map((item) => {
    check(item.kind === 'other' && /^(0|[1-9][0-9]*)$/.test(item.text), 'no integer')
    const value = BigInt(item.text)
    check(value < 2n ** 53n, 'a large integer')
    return value
  })
}

export interface ReferenceTensor {
  name: string
  type: string
  shape: number[]
  begin: number
  end: number
}

function tensorOf([name, json]: [string, Json]): ReferenceTensor {
  check(json.kind === 'object', 'no object')
  const known = json.members.filter(([n]) => ['dtype', 'shape', 'data_offsets'].includes(n))
  const fields = unique(known)
  for (const [, value] of json.members) check(depth(value) <= 64, 'deep')
  const dtype = fields.get('dtype')
  check(dtype?.kind === 'string', 'no dtype')
  const shape = sizes(fields.get('shape'))
  const offsets = sizes(fields.get('data_offsets'))
  check(offsets.length === 2, 'no two offsets')
  const [begin, end] = offsets as [bigint, bigint]
  check(begin <= end, 'offsets backwards')
  const nonzero = shape.filter((size) => size !== 0n).reduce((a, b) => a * b, 1n)
  check(nonzero <= 2n ** 50n, 'too many elements')
  const bits = Object.hasOwn(bitsOf, dtype.value) ? bitsOf[dtype.value] : undefined
  if (bits !== undefined)
    check(shape.reduce((a, b) => a * b, 1n) * bits === 8n * (end - begin), 'size')
  return {
    name,
    type: dtype.value,
    shape: shape.map(Number),
    begin: Number(begin),
    end: Number(end),
  }
}

/** The tensors and metadata of a header with `dataBytes` of data; undefined if it is invalid. */
export function referenceHeader(
  json: Buffer,
  dataBytes: number,
): { tensors: ReferenceTensor[]; metadata: [string, string][] } | undefined {
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(json)
    check(text[0] === '{', 'no {')
    const tokens = tokensOf(text)
    const root = parse(tokens)
    check(root.kind === 'object' && tokens.length === 0, 'no object')
    unique(root.members)
    const tensors = root.members.filter(([name]) => name !== '__metadata__').map(tensorOf)
    const meta = root.members.find(([name]) => name === '__metadata__')?.[1]
    check(meta === undefined || meta.kind === 'object', 'metadata')
    const members = meta?.kind === 'object' ? meta.members : []
    const metadata = members.map(([name, value]): [string, string] => {
      check(value.kind === 'string', 'metadata')
      return [name, value.value]
    })
    unique(metadata)
    let covered = 0
    for (const t of [...tensors].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
      check(t.begin === covered, 'hole or overlap')
      covered = t.end
    }
    check(covered === dataBytes, 'data')
    return { tensors, metadata }
  } catch (error) {
    if (error instanceof Invalid || error instanceof TypeError) return undefined
    throw error
  }
}

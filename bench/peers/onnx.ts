// ONNX models as bytes: the messages of onnx.proto that small graphs need. A field of a protocol
// buffer is a tag (number * 8 + kind), then a varint (kind 0) or a length and bytes (kind 2).

const types = { float32: 1, int8: 3, int32: 6, int64: 7, float16: 10 } as const
export type OnnxType = keyof typeof types

export interface Value {
  name: string
  type: OnnxType
  shape: readonly number[]
}

export interface Node {
  op: string
  inputs: readonly string[]
  outputs: readonly string[]
  attributes?: Readonly<Record<string, number>>
}

export interface Constant extends Value {
  data: Float32Array | BigInt64Array
}

export interface Graph {
  inputs: readonly Value[]
  outputs: readonly Value[]
  constants: readonly Constant[]
  nodes: readonly Node[]
}

function varint(value: number): Uint8Array {
  const bytes = []
  let rest = value
  for (; rest >= 128; rest = Math.floor(rest / 128)) bytes.push((rest % 128) | 128)
  return Uint8Array.from([...bytes, rest])
}

// Negative integers are ten bytes long, in two's complement.
function integer(field: number, value: number): Uint8Array[] {
  if (value >= 0) return [varint(field * 8), varint(value)]
  const bytes = Array.from({ length: 10 }, (_, i) =>
    Number((BigInt.asUintN(64, BigInt(value)) >> BigInt(7 * i)) & 127n),
  )
  return [varint(field * 8), Uint8Array.from(bytes, (b, i) => (i < 9 ? b | 128 : b & 1))]
}

function bytes(field: number, chunks: readonly Uint8Array[]): Uint8Array[] {
  const length = chunks.reduce((sum, chunk) => sum + chunk.length, 0)
  return [varint(field * 8 + 2), varint(length), ...chunks]
}

const text = (field: number, value: string) => bytes(field, [new TextEncoder().encode(value)])

function valueInfo(field: number, { name, type, shape }: Value): Uint8Array[] {
  const dims = shape.flatMap((size) => bytes(1, integer(1, size)))
  const tensor = [...integer(1, types[type]), ...bytes(2, dims)]
  return bytes(field, [...text(1, name), ...bytes(2, bytes(1, tensor))])
}

function nodeProto({ op, inputs, outputs, attributes = {} }: Node): Uint8Array[] {
  const kindInteger = 2
  const list = Object.entries(attributes).flatMap(([name, value]) =>
    bytes(5, [...text(1, name), ...integer(3, value), ...integer(20, kindInteger)]),
  )
  return bytes(1, [
    ...inputs.flatMap((i) => text(1, i)),
    ...outputs.flatMap((o) => text(2, o)),
    ...text(4, op),
    ...list,
  ])
}

function constantProto({ name, type, shape, data }: Constant): Uint8Array[] {
  const raw = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  return bytes(5, [
    ...shape.flatMap((size) => integer(1, size)),
    ...integer(2, types[type]),
    ...text(8, name),
    ...bytes(9, [raw]),
  ])
}

/** A model of one graph, in operator set 17. */
export function encodeModel(graph: Graph): Uint8Array {
  const body = [
    ...graph.nodes.flatMap(nodeProto),
    ...text(2, 'graph'),
    ...graph.constants.flatMap(constantProto),
    ...graph.inputs.flatMap((v) => valueInfo(11, v)),
    ...graph.outputs.flatMap((v) => valueInfo(12, v)),
  ]
  const operators = [...text(1, ''), ...integer(2, 17)]
  return new Uint8Array(
    Buffer.concat([...integer(1, 8), ...bytes(7, body), ...bytes(8, operators)]),
  )
}

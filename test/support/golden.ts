// A separate reader of safetensors: the golden files must not depend on the code they test.

import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

export interface GoldenTensor {
  shape: number[]
  data: Float32Array | Int32Array
}

export interface Golden {
  meta: Record<string, string>
  tensors: Record<string, GoldenTensor>
}

export function golden(name: string): Golden {
  const bytes = readFileSync(
    fileURLToPath(new URL(`../golden/${name}.safetensors`, import.meta.url)),
  )
  const length = Number(bytes.readBigUInt64LE(0))
  const header = JSON.parse(bytes.subarray(8, 8 + length).toString()) as {
    __metadata__: Record<string, string>
  }
  const { __metadata__: meta, ...entries } = header
  const tensors: Record<string, GoldenTensor> = {}
  for (const [key, value] of Object.entries(entries)) {
    const { dtype, shape, data_offsets } = value as unknown as {
      dtype: string
      shape: number[]
      data_offsets: [number, number]
    }
    const [begin, end] = data_offsets
    const copy = bytes.buffer.slice(
      bytes.byteOffset + 8 + length + begin,
      bytes.byteOffset + 8 + length + end,
    )
    tensors[key] = { shape, data: dtype === 'I32' ? new Int32Array(copy) : new Float32Array(copy) }
  }
  return { meta, tensors }
}

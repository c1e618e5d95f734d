// A row patch as a safetensors file: rows [R] int32, before and after [R, dim] of the table's
// dtype; of bfloat16 the signed low halves [R, dim, 2] uint8 as before.exact and after.exact, of
// float16 the exact values [R, dim] float32. The number of slots is in the metadata.

import { native } from './binding.js'
import { type DType, dtypeCode } from './dtype.js'
import { fail } from './errors.js'
import { openDevice } from './open-device.js'
import type { RowBits } from './row-bits.js'
import type { PatchParts } from './row-patch.js'
import { readSafetensors, saveSafetensors } from './safetensors.js'
import { formatShape } from './shape.js'
import type { StateDict } from './state-dict.js'
import { Tensor } from './tensor.js'

const format = 'memory-layers row patch 1'

/** Of the exact values that belong to rows of each dtype. */
const exactTypes = { float32: undefined, float16: 'float32', bfloat16: 'uint8' } as const
type PatchDType = keyof typeof exactTypes

/** Names, dtypes and shapes of the tensors of a file. */
function layout(
  dtype: PatchDType,
  rows: number,
  dim: number,
): { name: string; dtype: DType; shape: number[] }[] {
  const exact = exactTypes[dtype]
  const exactShape = exact === 'uint8' ? [rows, dim, 2] : [rows, dim]
  return [
    { name: 'rows', dtype: 'int32', shape: [rows] },
    ...['before', 'after'].flatMap((side) => [
      { name: side, dtype, shape: [rows, dim] },
      ...(exact ? [{ name: `${side}.exact`, dtype: exact, shape: exactShape }] : []),
    ]),
  ]
}

/** @throws as saveSafetensors */
export async function writePatch(path: string, patch: PatchParts): Promise<void> {
  const where = 'RowPatch.save'
  const { rows, before, after, slots, dim } = patch
  const device = openDevice('cpu')
  const bytes: Record<string, Uint8Array | undefined> = {
    rows: new Uint8Array(rows.buffer, rows.byteOffset, rows.byteLength),
    before: before.bits,
    after: after.bits,
    'before.exact': before.exact,
    'after.exact': after.exact,
  }
  const tensors: StateDict = {}
  try {
    for (const { name, dtype, shape } of layout(patch.dtype as PatchDType, rows.length, dim)) {
      const code = dtypeCode(where, dtype)
      const handle = native.tensorEmpty(device.handle, shape, code, where)
      tensors[name] = new Tensor(device, handle)
      native.tensorWrite(handle, 0, bytes[name]!)
    }
    await saveSafetensors(path, tensors, { metadata: { format, slots: String(slots) } })
  } finally {
    for (const tensor of Object.values(tensors)) tensor.dispose()
  }
}

/** @throws ERR_FILE_FORMAT for a file that is no patch, and as loadSafetensors */
export async function readPatch(where: string, path: string): Promise<PatchParts> {
  const { tensors, metadata } = await readSafetensors(path, { device: openDevice('cpu') })
  try {
    const bad = (found: string): never => {
      const hint = 'RowPatch.save writes such files.'
      fail('ERR_FILE_FORMAT', where, 'path', 'name a row patch of this package', found, hint)
    }
    if (metadata['format'] !== format) bad(`format ${metadata['format']}`)
    const slots = /^[1-9]\d{0,9}$/.test(metadata['slots'] ?? '') ? Number(metadata['slots']) : 0
    if (slots < 1 || slots >= 2 ** 31) bad(`${metadata['slots']} slots`)
    const { dtype, dim } = checkTensors(tensors, bad)
    const read = async (name: string) => {
      const tensor = tensors[name]
      return tensor && new Uint8Array(await native.tensorRead(tensor.handle(where, name), where))
    }
    const rows = new Int32Array((await read('rows'))!.buffer as ArrayBuffer)
    const bits = async (side: string): Promise<RowBits> => ({
      count: rows.length,
      bits: (await read(side)) as Uint8Array,
      exact: await read(`${side}.exact`),
    })
    for (const [i, row] of rows.entries())
      if (row < (i === 0 ? 0 : rows[i - 1]! + 1) || row >= slots) bad(`"rows"[${i}] is ${row}`)
    return { slots, dim, dtype, rows, before: await bits('before'), after: await bits('after') }
  } finally {
    for (const tensor of Object.values(tensors)) tensor.dispose()
  }
}

/** All tensors of the layout, and no others. */
function checkTensors(
  tensors: StateDict,
  bad: (found: string) => never,
): { dtype: PatchDType; dim: number } {
  const { rows, before } = tensors
  const dtype = before?.dtype
  if (!rows || !before || !(dtype && Object.hasOwn(exactTypes, dtype)))
    return bad(`tensors ${Object.keys(tensors)}`)
  const [dim = 0, ...rest] = before.shape.slice(1)
  if (rest.length > 0 || dim < 1) bad(`"before" ${formatShape(before.shape)}`)
  const wanted = layout(dtype as PatchDType, rows.size, dim)
  for (const { name, dtype, shape } of wanted) {
    const tensor = Object.hasOwn(tensors, name) ? tensors[name] : undefined
    const found = tensor ? `"${name}" ${tensor.dtype} ${formatShape(tensor.shape)}` : `no "${name}"`
    if (tensor?.dtype !== dtype || formatShape(tensor.shape) !== formatShape(shape)) bad(found)
  }
  const names = new Set(wanted.map(({ name }) => name))
  for (const name of Object.keys(tensors)) if (!names.has(name)) bad(`"${name}"`)
  return { dtype: dtype as PatchDType, dim }
}

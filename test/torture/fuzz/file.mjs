// The target for files: any bytes are loaded, or refused with an error that the package documents;
// what is loaded is within the file, and the same after it is saved and loaded again. Rows of a
// mapped table are read.

import { writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { expectDocumented } from './bytes.mjs'

const headerForm = 1
const saveForm = 2

/**
 * The first byte says what the rest is: a whole file, or a header, before which its length is put,
 * and after it the data that it speaks of.
 */
function fileOf(data) {
  const [form = 0] = data
  const rest = data.subarray(1)
  if ((form & headerForm) === 0) return rest
  const length = Buffer.alloc(8)
  length.writeBigUInt64LE(BigInt(rest.length))
  const ends = [...rest.toString('latin1').matchAll(/(\d{1,4})\]/g)].map(([, n]) => Number(n))
  return Buffer.concat([length, rest, Buffer.alloc(Math.min(4096, Math.max(0, ...ends)), 7)])
}

/** Names that the header may have, whatever else is wrong with it. */
function namesOf(file) {
  const names = [...file.toString('utf8').matchAll(/"((?:[^"\\]|\\.)*)"\s*:\s*\{/g)].map(
    (m) => m[1],
  )
  return names.slice(0, 3)
}

export function fileTarget(ml, folder) {
  const device = ml.openDevice('cpu', { threads: 1 })
  const path = join(folder, 'fuzzed.safetensors')
  const again = join(folder, 'again.safetensors')

  const bytesOf = async (tensor) => Buffer.from((await tensor.data()).buffer)

  async function load(file, save) {
    const tensors = await ml.loadSafetensors(path, { device })
    const bytes = Object.values(tensors).reduce((sum, t) => sum + t.byteLength, 0)
    if (bytes > file.length) throw new Error(`${bytes} bytes of a file of ${file.length}`)
    if (save) await saveAgain(tensors)
    for (const t of Object.values(tensors)) t.dispose()
  }

  async function saveAgain(tensors) {
    await ml.saveSafetensors(again, tensors)
    const copies = await ml.loadSafetensors(again, { device })
    for (const [name, copy] of Object.entries(copies)) {
      const [a, b] = [await bytesOf(tensors[name]), await bytesOf(copy)]
      if (!a.equals(b)) throw new Error(`${name} is another after a save`)
      copy.dispose()
    }
    if (Object.keys(copies).length !== Object.keys(tensors).length)
      throw new Error('a save has lost a tensor')
  }

  async function map(name, scales) {
    const table = ml.ValueTable.map(path, name, { device, ...(scales && { scales }) })
    try {
      if (table.dim === 0 || table.slots === 0) return
      const one = device.tensor([1], [1, 1])
      const indices = device.tensor(Int32Array.of(table.slots - 1), [1, 1])
      const options = table.scales && { scales: table.scales }
      await ml.ops.embeddingBag(table.weight, indices, one, options).data()
    } finally {
      table.dispose()
    }
  }

  return async (data) => {
    const file = fileOf(data)
    writeFileSync(path, file)
    const form = data[0] ?? 0
    await load(file, (form & saveForm) !== 0).catch((error) => expectDocumented(ml, error))
    const names = namesOf(file)
    for (const [i, name] of names.entries())
      await map(name, form & 4 ? names[i + 1] : undefined).catch((error) =>
        expectDocumented(ml, error),
      )
  }
}

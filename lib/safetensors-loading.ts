import { native } from './binding.js'
import type { Device } from './device.js'
import { Pace } from './files/pace.js'
import { allocate, type ReadableFile, readExactly } from './files/read.js'
import type { FileContext } from './files/system.js'
import type { Header, LoadableEntry } from './safetensors-header.js'
import type { StateDict } from './state-dict.js'
import type { Tensor } from './tensor.js'

const chunkBytes = 16 * 2 ** 20

/** Entries whose bytes follow each other in the file. */
interface Run {
  entries: LoadableEntry[]
  begin: number
  end: number
}

/** Tensors that are read from a file, in chunks of it. */
export class Loading {
  readonly #tensors = new Map<string, Tensor>()
  readonly #device: Device
  readonly #entries: readonly LoadableEntry[]
  /** Called with the bytes of a tensor that were read. */
  readonly #onPiece: (name: string, bytes: number) => void

  constructor(
    device: Device,
    entries: readonly LoadableEntry[],
    onPiece: (name: string, bytes: number) => void,
  ) {
    this.#device = device
    this.#entries = entries
    this.#onPiece = onPiece
  }

  /** Allocates all tensors, then reads them in the order of the file. */
  async run(file: FileContext, open: ReadableFile, header: Header): Promise<StateDict> {
    const pace = new Pace()
    for (const { name, shape, dtype } of this.#entries) {
      this.#tensors.set(name, this.#device.empty(shape, dtype))
      if (pace.due) await pace.rest()
    }
    const runs = contiguous(this.#entries)
    const longest = runs.reduce((bytes, run) => Math.max(bytes, run.end - run.begin), 1)
    const buffer = allocate(file, Math.min(chunkBytes, longest))
    for (const { entries, begin, end } of runs) {
      let next = 0 // the first entry that is not whole
      for (let at = begin; at < end; at += buffer.length) {
        const chunk = buffer.subarray(0, Math.min(buffer.length, end - at))
        await readExactly(file, open, chunk, header.dataStart + at)
        while (next < entries.length) {
          const entry = entries[next]!
          this.#write(entry, at, chunk)
          if (entry.end > at + chunk.length) break
          next++
          if (pace.due) await pace.rest()
        }
      }
    }
    return Object.fromEntries(this.#tensors)
  }

  /** Writes what of an entry is in a chunk of the file that begins at `at`. */
  #write({ name, begin, end }: LoadableEntry, at: number, chunk: Uint8Array): void {
    const from = Math.max(begin, at)
    const to = Math.min(end, at + chunk.length)
    if (from >= to) return
    const handle = this.#tensors.get(name)!.handle('loadSafetensors', name)
    native.tensorWrite(handle, from - begin, chunk.subarray(from - at, to - at))
    this.#onPiece(name, to - from)
  }

  dispose(): void {
    for (const tensor of this.#tensors.values()) tensor.dispose()
  }
}

function contiguous(entries: readonly LoadableEntry[]): Run[] {
  const runs: Run[] = []
  for (const entry of [...entries].sort((a, b) => a.begin - b.begin || a.end - b.end)) {
    const last = runs.at(-1)
    if (last?.end === entry.begin) {
      last.entries.push(entry)
      last.end = entry.end
    } else {
      runs.push({ entries: [entry], begin: entry.begin, end: entry.end })
    }
  }
  return runs
}

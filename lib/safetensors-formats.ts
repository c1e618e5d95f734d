// Files that are no safetensors files: what they are instead, by their first bytes.

import { quotePath } from './describe.js'
import { MemoryLayersError } from './errors.js'
import type { FileContext } from './files/system.js'

interface Format {
  is: (begin: Buffer) => boolean
  /** Completes "it is …". */
  name: string
  hint: string
}

const saveAgain = 'Load it in Python and write its tensors with safetensors.torch.save_file.'

const bytes =
  (...magic: number[]) =>
  (begin: Buffer) =>
    begin.subarray(0, magic.length).equals(Buffer.from(magic))
const text = (pattern: RegExp) => (begin: Buffer) => pattern.test(begin.toString('latin1'))

const formats: readonly Format[] = [
  {
    is: bytes(0x50, 0x4b, 0x03, 0x04),
    name: 'a zip archive, as torch.save (.pt, .pth, .bin) and numpy.savez write',
    hint: saveAgain,
  },
  // protocols 2 to 5: PROTO, then the first opcode of a dictionary, a number or a frame
  {
    is: (begin) => begin[0] === 0x80 && begin[1]! >= 2 && begin[1]! <= 5,
    name: 'a Python pickle, as older versions of torch.save write',
    hint: saveAgain,
  },
  {
    is: text(/^GGUF/),
    name: 'a GGUF file, as llama.cpp uses',
    hint: 'Take the model in safetensors, from which GGUF files are converted.',
  },
  {
    is: text(/^(lmgg|fmgg|tjgg|algg)/),
    name: 'a GGML file, as older versions of llama.cpp use',
    hint: 'Take the model in safetensors, from which GGML files are converted.',
  },
  {
    is: text(/^\x93NUMPY/),
    name: 'a NumPy array (.npy)',
    hint: 'Load it in Python and write it with safetensors.numpy.save_file.',
  },
  {
    is: bytes(0x89, 0x48, 0x44, 0x46, 0x0d, 0x0a, 0x1a, 0x0a),
    name: 'an HDF5 file, as Keras (.h5) uses',
    hint: 'Load it in Python and write its arrays with safetensors.numpy.save_file.',
  },
  {
    is: text(/^....TFL3/s),
    name: 'a TensorFlow Lite model',
    hint: 'Take the model in safetensors.',
  },
  {
    is: text(/^version https:\/\/git-lfs/),
    name: 'a Git LFS pointer, not the file that it points to',
    hint: 'Fetch the file with git lfs pull.',
  },
  {
    is: text(/^\s*<(!doctype|html|head|\?xml|!--)/i),
    name: 'a web page or XML, perhaps an error message of a download',
    hint: 'Download the file itself; it may need a login.',
  },
  {
    is: text(/^\s*[{[]\s*["\]}{[]/),
    name: 'JSON text, perhaps the index of a model in several files',
    hint: 'Load the .safetensors files that the index names.',
  },
  { is: bytes(0x1f, 0x8b), name: 'compressed by gzip', hint: 'Decompress it first.' },
  {
    is: bytes(0x28, 0xb5, 0x2f, 0xfd),
    name: 'compressed by Zstandard',
    hint: 'Decompress it first.',
  },
  {
    is: bytes(0xfd, 0x37, 0x7a, 0x58, 0x5a, 0x00),
    name: 'compressed by xz',
    hint: 'Decompress it first.',
  },
  { is: text(/^BZh[1-9]/), name: 'compressed by bzip2', hint: 'Decompress it first.' },
  {
    is: (begin) => begin.length >= 262 && begin.toString('latin1', 257, 262) === 'ustar',
    name: 'a tar archive',
    hint: 'Extract it first.',
  },
  {
    is: (begin) => begin.length > 0 && begin.every((byte) => byte === 0),
    name: 'filled with zeros, as a download or copy that was broken off may leave it',
    hint: 'Fetch it again.',
  },
  {
    is: text(/^[\t\n\r -~]+$/),
    name: 'text, perhaps an error message of a download',
    hint: 'Download the file itself; it may need a login.',
  },
]

/** How many bytes of a file tell what it is. */
export const formatBytes = 512

/** Throws ERR_FILE_FORMAT. `begin`: the file's first bytes, if they may tell what it is instead. */
export function failFormat({ where, path }: FileContext, reason: string, begin?: Buffer): never {
  const other = begin && formats.find((format) => format.is(begin))
  const subject = `${where}: ${quotePath(path)}`
  const text = other
    ? `${subject} is not a safetensors file: it is ${other.name}.\n  ${other.hint}`
    : `${subject} is not a valid safetensors file: ${reason}.\n  ` +
      'It may be truncated or not a safetensors file; write it again.'
  throw new MemoryLayersError('ERR_FILE_FORMAT', text)
}

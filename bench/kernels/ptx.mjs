// What the compiled PTX of a kernel shows, instance by instance.

// A load, a store or an atomic without a state space: the hardware finds out at each access whether
// the address is shared, local or global memory.
const scope = String.raw`(\.(volatile|relaxed|acquire|release|acq_rel|weak|sys|gpu|cta))*`
const generic = new RegExp(String.raw`^(ld|st|atom|red)${scope}\.(v\d\.)?[subf]\d+`)
const load = /^ld\.global/
const product = /^mma\.sync/
const unpacks = /^(mov|cvt\.u\d+\.u\d+|shr\.u\d+)\b/ // a load's bytes, told apart: no wait for them

/** The instructions of a block without predicates: opcode and registers. */
function instructions(body) {
  return body
    .split('\n')
    .map((line) => line.trim().replace(/^@!?%?p\d*\s+/, ''))
    .filter((line) => /^[a-z]/.test(line) && line.endsWith(';'))
}

/** Registers that an instruction writes, and those that it reads. */
function registersOf(instruction) {
  const operands = instruction.slice(instruction.indexOf(' '))
  const all = operands.match(/%[a-z]+\d+/g) ?? []
  const target = /^\s*(\{[^}]*\}|%[a-z]+\d+)/.exec(operands)?.[1] ?? ''
  const written = /^(st|red|bar|bra|ret|mov\.u64 %SP)/.test(instruction)
    ? []
    : (target.match(/%[a-z]+\d+/g) ?? [])
  return { written, read: all.slice(written.length) }
}

/** Most global loads of a stretch of code that begin before the result of one of them is used. */
function loadsInFlight(block) {
  let most = 0
  let open = new Set()
  let count = 0
  for (const instruction of block) {
    const { written, read } = registersOf(instruction)
    if (read.some((r) => open.has(r))) {
      if (unpacks.test(instruction)) {
        for (const r of written) open.add(r)
        continue
      }
      open = new Set()
      count = 0
    }
    if (!load.test(instruction)) continue
    count += 1
    for (const r of written) open.add(r)
    most = Math.max(most, count)
  }
  return most
}

const counted = { products: product, fmas: /^fma\.rn\.f32/, loads: load, votes: /^vote/ }

/**
 * The innermost loops of a kernel: from a label to the last branch back to it, without another such
 * loop inside. Of each its instructions, and how many of them are of the counted kinds.
 */
function innermostLoops(lines) {
  const code = lines.split('\n').map((line) => line.trim())
  const labels = new Map()
  for (const [at, line] of code.entries()) {
    const label = /^(\$\w+):/.exec(line)?.[1]
    if (label) labels.set(label, at)
  }
  const loops = new Map() // by the line of their label: that of the last branch
  for (const [at, line] of code.entries()) {
    const begin = labels.get(/\bbra(?:\.uni)?\s+(\$\w+)/.exec(line)?.[1])
    if (begin < at) loops.set(begin, at)
  }
  return [...loops]
    .filter(([begin, end]) => ![...loops].some(([b, e]) => b > begin && e < end))
    .map(([begin, end]) => {
      const body = instructions(code.slice(begin, end + 1).join('\n'))
      const kinds = Object.entries(counted).map(([kind, pattern]) => [
        kind,
        body.filter((i) => pattern.test(i)).length,
      ])
      return { instructions: body.length, ...Object.fromEntries(kinds) }
    })
}

/**
 * Of each kernel in the text of a PTX file, by its mangled name: generic accesses; the share of
 * tensor-core products among the instructions of the block that has most of them; loads in flight;
 * and its innermost loops.
 */
export function readPtx(text) {
  const found = new Map()
  for (const [, name, body] of text.matchAll(/\.entry (\w+)\([\s\S]*?\)[^{]*\{([\s\S]*?)\n\}/g)) {
    // inline assembly has braces and registers of its own around its instructions
    const lines = body.replaceAll(/\/\/.*$/gm, '').replaceAll(/[{}](?=\s*\.reg|\s*$)/gm, '')
    const blocks = lines.split(/^\s*\$\w+:.*$/m).map((b) => instructions(b.replaceAll('; ', ';\n')))
    const products = blocks.map((b) => b.filter((i) => product.test(i)).length)
    const busiest = products.indexOf(Math.max(...products))
    found.set(name, {
      generic: blocks.flat().filter((i) => generic.test(i)).length,
      products: products[busiest],
      productShare: blocks[busiest].length ? products[busiest] / blocks[busiest].length : 0,
      loads: Math.max(...blocks.map(loadsInFlight)),
      loops: innermostLoops(lines.replaceAll('; ', ';\n')),
    })
  }
  return found
}

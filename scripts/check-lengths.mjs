// Lines end at column 100, and no file of native/, lib/ or bench/ has more than 300 lines. Tables
// and addresses in Markdown, data and generated files are left out.

import { readFileSync } from 'node:fs'
import { root, trackedFiles } from './tracked-files.mjs'

const maxColumns = 100
const maxLines = 300
const generated = /(^|\/)package-lock\.json$|^docs\/benchmarks\.md$/
const data = /\.(json|svg|safetensors|png)$|\/corpus\//

const faults = []
for (const name of trackedFiles()) {
  if (generated.test(name) || data.test(name)) continue
  const lines = readFileSync(root + name, 'utf8')
    .trimEnd()
    .split('\n')
  const markdown = name.endsWith('.md')
  for (const [i, line] of lines.entries()) {
    if ([...line].length <= maxColumns) continue
    if (markdown && /^\s*\||\]\(|https?:/.test(line)) continue
    faults.push(`${name}:${i + 1}: ${[...line].length} columns, at most ${maxColumns}`)
  }
  if (/^(native|lib|bench)\//.test(name) && lines.length > maxLines)
    faults.push(`${name}: ${lines.length} lines, at most ${maxLines}`)
}

for (const fault of faults) console.error(fault)
console.log(faults.length === 0 ? 'lengths: in order' : `lengths: ${faults.length} faults`)
process.exit(faults.length === 0 ? 0 : 1)

// Lines end at column 100, and no file of native/, lib/ or bench/ has more than 300 lines. Tables
// and addresses in Markdown, data and generated files are left out.

import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))
const maxColumns = 100
const maxLines = 300
const listed = ['ls-files', '--cached', '--others', '--exclude-standard', '--deduplicate']
const generated = /(^|\/)package-lock\.json$|^docs\/benchmarks\.md$/
const data = /\.(json|svg|safetensors|png)$/

const faults = []
for (const name of execFileSync('git', listed, { cwd: root, encoding: 'utf8' }).split('\n')) {
  if (!name || generated.test(name) || data.test(name)) continue
  let lines
  try {
    lines = readFileSync(new URL(`../${name}`, import.meta.url), 'utf8')
      .trimEnd()
      .split('\n')
  } catch {
    continue // deleted in the working tree
  }
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

// The code samples of README.md and the guides: the ```ts blocks of a page, one after another, are
// one program. Those of doc comments that begin with an import are programs of their own.
//   node scripts/samples.mjs FOLDER      writes each page's program to FOLDER/<page>.ts

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { root, trackedFiles } from './tracked-files.mjs'

/** @returns {{ name: string, page: string, code: string }[]} */
export function samples() {
  const guides = readdirSync(join(root, 'docs/guides')).filter((f) => f.endsWith('.md'))
  return ['README.md', ...guides.map((g) => `docs/guides/${g}`)].flatMap((page) => {
    const text = readFileSync(join(root, page), 'utf8')
    const blocks = [...text.matchAll(/^```ts\n(.*?)^```$/gms)].map((m) => m[1])
    return blocks.length === 0
      ? []
      : [{ name: basename(page, '.md').toLowerCase(), page, code: blocks.join('\n') }]
  })
}

/** @returns {{ name: string, page: string, code: string }[]} */
export function snippets() {
  const files = trackedFiles().filter((name) => /^lib\/.*\.ts$/.test(name))
  return files.flatMap((page) => {
    const text = readFileSync(join(root, page), 'utf8')
    const blocks = [...text.matchAll(/^ \* ```ts\n((?= \* import)(?: \*.*\n)*?) \* ```$/gm)]
    return blocks.map(([, lines], i) => ({
      name: `${page.replace(/^lib\/|\.ts$/g, '').replaceAll('/', '-')}-${i + 1}`,
      page,
      code: lines.replace(/^ \* ?/gm, ''),
    }))
  })
}

export function writeSamples(folder, programs = samples()) {
  mkdirSync(folder, { recursive: true })
  return programs.map((s) => {
    const path = join(folder, `${s.name}.ts`)
    writeFileSync(path, s.code)
    return { ...s, path }
  })
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const { page, path } of writeSamples(process.argv[2] ?? join(root, 'build/samples')))
    console.log(`${page} -> ${path}`)
}

// The workflows can't run here; what they name must exist, and agree with the guides.

import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { expect, test } from 'vitest'

const root = fileURLToPath(new URL('..', import.meta.url))
const read = (file: string) => readFileSync(`${root}${file}`, 'utf8')
const workflows = readdirSync(`${root}.github/workflows`).map((f) => `.github/workflows/${f}`)
const scripts = Object.keys(JSON.parse(read('package.json')).scripts)

test('every script and file that a workflow or CI names exists', () => {
  let count = 0
  for (const file of [...workflows, '.ci/run', 'scripts/ci.mjs']) {
    const text = read(file)
    for (const [, name] of text.matchAll(/npm run (?:--silent )?([\w:-]+)/g)) {
      expect(scripts, `${file}: npm run ${name}`).toContain(name)
      count++
    }
    for (const [path] of text.matchAll(/(?:scripts|test|\.ci|\.github\/workflows)\/[\w./-]+\w/g)) {
      expect(existsSync(root + path), `${file}: ${path}`).toBe(true)
      count++
    }
  }
  expect(count).toBeGreaterThan(15)
})

test('the build matrix has the platforms of the guide, and requires those with a binary', () => {
  const [, include = ''] = /^ +include:\n([\s\S]*?)\n {4}\w/m.exec(
    read('.github/workflows/prebuild.yml'),
  )!
  const matrix = include
    .split(/^ +- (?:\{ )?name: /m)
    .slice(1)
    .map((entry) => ({
      name: `${/^[\w-]+/.exec(entry)![0]}${/libc: musl/.test(entry) ? ' musl' : ''}`,
      required: !/untested: true/.test(entry),
    }))
  expect(matrix.filter((m) => m.required).map((m) => m.name)).toEqual(['linux-x64', 'linux-arm64'])
  expect(matrix.filter((m) => !m.required).map((m) => m.name)).toEqual([
    'linux-x64 musl',
    'darwin-arm64',
    'darwin-x64',
    'win32-x64',
  ])
  const guide = read('docs/guides/install.md')
  expect(guide).toMatch(/^\| linux-x64, glibc 2\.28 or newer +\| yes/m)
  expect(guide).toMatch(/^\| linux-arm64, glibc 2\.28 or newer +\| yes/m)
  expect(guide).toMatch(/^\| linux-x64 musl \(Alpine\), macOS, Windows +\| not yet/m)
})

test('the release asks for provenance, and no token is in any file', () => {
  const release = read('.github/workflows/release.yml')
  expect(release).toMatch(/id-token: write/)
  expect(release).toMatch(/npm publish --ignore-scripts --provenance/)
  for (const file of workflows) expect(read(file)).not.toMatch(/npm_[A-Za-z0-9]{30,}|ghp_\w{30,}/)
})

test('the lock file names no registry, and every platform of optional tools', () => {
  const lock = read('package-lock.json')
  expect(lock).not.toMatch(/"resolved"/)
  const biome = Object.keys(JSON.parse(lock).packages).filter((p) =>
    p.startsWith('node_modules/@biomejs/cli-'),
  )
  expect(biome.length).toBeGreaterThanOrEqual(8)
})

// `npm run torture`: the package under failures, random programs, hostile bytes, dying workers and
// long runs. node scripts/torture.mjs [part…] [--minutes n] [--seed n]
// The minutes are for all parts together and are divided among them; a part does as much as fits in
// its share. Prints what each part did, and ends with one line: N passed, N failed.

import { fork } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { root } from './tracked-files.mjs'

// `share`: of the minutes, relative to the others.
const parts = [
  { name: 'failures', about: 'the n-th allocation, thread, file or CUDA call fails', share: 3 },
  { name: 'programs', about: 'random programs against a float64 interpreter', share: 4 },
  { name: 'fuzz', about: 'coverage-guided fuzzers, the addon under sanitizers', share: 3 },
  { name: 'workers', about: 'workers ended in every state', share: 2 },
  { name: 'steps', about: 'long runs: memory and event loop', share: 2 },
]

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { minutes: { type: 'string' }, seed: { type: 'string' } },
})
const minutes = Number(values.minutes ?? 30)
const seed = Number(values.seed ?? Math.floor(Date.now() / 1000))
const unknown = positionals.filter((n) => !parts.some((p) => p.name === n))
if (unknown.length > 0 || !(minutes > 0) || !Number.isSafeInteger(seed)) {
  console.error('usage: node scripts/torture.mjs [part…] [--minutes n] [--seed n]')
  for (const { name, about } of parts) console.error(`  ${name.padEnd(10)} ${about}`)
  process.exit(2)
}
if (!existsSync(join(root, 'dist/index.js'))) {
  console.error('torture: dist/ is missing: run npm run build.')
  process.exit(2)
}

/** Runs a part in a process of its own: a crash or a part that never ends is one failure. */
function runPart({ name }, seconds) {
  return new Promise((resolve) => {
    const file = join(root, 'test/torture', name, 'main.ts')
    const child = fork(file, ['--seconds', String(seconds), '--seed', String(seed)], {
      cwd: root,
      execArgv: ['--expose-gc', '--import', 'tsx'],
      detached: true,
    })
    let report
    let late = false
    const timer = setTimeout(
      () => {
        late = true
        process.kill(-child.pid, 'SIGKILL')
      },
      (1.5 * seconds + 60) * 1000,
    )
    child.on('message', (message) => {
      report = message
    })
    child.on('exit', (status, signal) => {
      clearTimeout(timer)
      if (late) console.log(`WRONG ${name}: ended after ${Math.round(1.5 * seconds + 60)} s`)
      else if (!report) console.log(`WRONG ${name}: ended by ${signal ?? `exit code ${status}`}`)
      const { passed = 0, failed = 0, counts = {} } = report ?? {}
      resolve({ passed, failed: report && !late ? failed : failed + 1, counts })
    })
  })
}

const chosen = parts.filter((p) => positionals.length === 0 || positionals.includes(p.name))
const shares = chosen.reduce((sum, p) => sum + p.share, 0)
console.log(`seed ${seed}, ${minutes} minutes`)
const results = []
for (const part of chosen) {
  console.log(`\n${part.name}: ${part.about}`)
  const start = performance.now()
  const result = await runPart(part, (60 * minutes * part.share) / shares)
  results.push({ ...part, ...result, seconds: (performance.now() - start) / 1000 })
}

console.log('')
for (const { name, seconds, passed, failed, counts } of results) {
  console.log(
    `${name.padEnd(10)} ${seconds.toFixed(0).padStart(5)} s  ${passed} passed, ${failed} failed`,
  )
  for (const [what, n] of Object.entries(counts))
    console.log(`  ${n.toLocaleString('en-US').padStart(14)}  ${what}`)
}
const sum = (key) => results.reduce((total, r) => total + r[key], 0)
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`)
process.exit(sum('failed') === 0 ? 0 : 1)

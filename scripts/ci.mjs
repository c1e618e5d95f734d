// All that CI runs after `npm ci`, part by part: node scripts/ci.mjs [part…]. Prints what each
// took, and ends with one line that adds them up: N passed, N failed. A part that prints such a
// line itself is counted by its last one, any other as one test. To add a part, add a line to
// `parts`; a Debian package that it needs, to scripts/ci-packages.sh.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('..', import.meta.url))

const parts = [
  { name: 'check', run: 'npm run check', minutes: 5 },
  { name: 'tests', run: 'npm test', minutes: 30 },
  { name: 'sanitizers', run: 'bash test/native/run', minutes: 15 },
  { name: 'emulator', run: 'bash test/simt/run', minutes: 15 },
  { name: 'kernels', run: 'npm run bench:kernels -- --check', minutes: 15 },
  { name: 'package', run: 'npm run test:package -- --cuda-architectures 80', minutes: 20 },
]

/** Runs one part with its output shown; its last line of counts, if it prints one. */
function runPart({ run, minutes }) {
  return new Promise((resolve) => {
    const child = spawn('bash', ['-c', run], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    let tail = ''
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL')
    }, minutes * 60_000)
    child.stdout.on('data', (data) => {
      process.stdout.write(data)
      tail = (tail + data).slice(-100_000)
    })
    child.on('close', (status) => {
      clearTimeout(timer)
      if (late) console.log(`ended after ${minutes} minutes, its limit`)
      const counts = [...tail.matchAll(/^(\d+) passed, (\d+) failed\b/gm)].at(-1)
      const passed = counts ? Number(counts[1]) : Number(status === 0)
      const failed = counts ? Number(counts[2]) : Number(status !== 0)
      resolve({ passed, failed: status !== 0 && failed === 0 ? 1 : failed })
    })
  })
}

const names = process.argv.slice(2)
const unknown = names.filter((n) => !parts.some((p) => p.name === n))
if (unknown.length > 0) {
  console.error(
    `ci: no part ${unknown.join(', ')}; there are ${parts.map((p) => p.name).join(', ')}.`,
  )
  process.exit(2)
}

const results = []
for (const part of parts.filter((p) => names.length === 0 || names.includes(p.name))) {
  console.log(`\n== ${part.name}: ${part.run}`)
  const start = performance.now()
  const counts = await runPart(part)
  results.push({ name: part.name, ...counts, seconds: (performance.now() - start) / 1000 })
}

console.log('')
for (const r of results)
  console.log(
    `${r.name.padEnd(14)}${r.seconds.toFixed(0).padStart(6)} s  ${r.passed} passed, ${r.failed} failed`,
  )
const sum = (key) => results.reduce((total, r) => total + r[key], 0)
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`)
process.exit(sum('failed') === 0 ? 0 : 1)

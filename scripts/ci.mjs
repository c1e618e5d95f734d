// All that CI runs after `npm ci`, stage by stage: node scripts/ci.mjs [stage…]. Prints the time of
// each, and ends with one line that adds them up: N passed, N failed. A stage that prints such a
// line itself is counted by its last one, any other as one test. What failed is shown once more at
// the end. To add a stage, add a line to `stages`; a Debian package that it needs, to
// scripts/ci-packages.sh.

import { spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { stripVTControlCharacters } from 'node:util'

const root = fileURLToPath(new URL('..', import.meta.url))

const stages = [
  { name: 'check', run: 'npm run check', minutes: 5 },
  { name: 'tests', run: 'npm test', minutes: 30 },
  { name: 'distributed', run: 'npm run test:distributed', minutes: 8 },
  { name: 'sanitizers', run: 'bash test/native/run', minutes: 30 },
  { name: 'emulator', run: 'bash test/simt/run', minutes: 20 },
  {
    name: 'torture',
    run: 'npm run torture -- failures programs workers steps --minutes 3.5 --seed 1',
    minutes: 5,
  },
  { name: 'kernels', run: 'npm run bench:kernels -- --check', minutes: 15 },
  { name: 'package', run: 'npm run test:package -- --cuda-architectures 80', minutes: 25 },
]

// Lines that name a failure, of the stages' own programs, vitest, ninja, the sanitizers and nvcc.
const ofFailures = /\b(WRONG|FAIL(ED)?|failed:|ERROR|[Ee]rror|not ok)\b/

/** Runs one stage with its output shown. Returns the counts of the last line that has some. */
function runStage({ run, minutes }) {
  return new Promise((resolve) => {
    const child = spawn('bash', ['-c', `exec 2>&1; ${run}`], {
      cwd: root,
      stdio: ['ignore', 'pipe', 'inherit'],
      detached: true,
    })
    const chunks = []
    let late = false
    const timer = setTimeout(() => {
      late = true
      process.kill(-child.pid, 'SIGKILL')
    }, minutes * 60_000)
    child.stdout.on('data', (data) => {
      process.stdout.write(data)
      chunks.push(data)
    })
    child.on('close', (status) => {
      clearTimeout(timer)
      if (late) console.log(`ended after ${minutes} minutes, its limit`)
      const output = Buffer.concat(chunks).toString()
      const counts = [...output.matchAll(/^(\d+) passed, (\d+) failed\b/gm)].at(-1)
      const passed = counts ? Number(counts[1]) : Number(status === 0)
      const failed = counts ? Number(counts[2]) : Number(status !== 0)
      const lines = status === 0 ? [] : stripVTControlCharacters(output).trimEnd().split('\n')
      const named = lines.filter((line) => ofFailures.test(line) && !/^\s*✓/.test(line))
      resolve({
        passed,
        failed: status !== 0 && failed === 0 ? 1 : failed,
        shown: named.length > 0 ? named.slice(0, 20) : lines.slice(-20),
      })
    })
  })
}

const names = process.argv.slice(2)
const unknown = names.filter((n) => !stages.some((s) => s.name === n))
if (unknown.length > 0) {
  const known = stages.map((s) => s.name).join(', ')
  console.error(`ci: no stage ${unknown.join(', ')}; there are ${known}.`)
  process.exit(2)
}

const results = []
for (const stage of stages.filter((s) => names.length === 0 || names.includes(s.name))) {
  console.log(`\n== ${stage.name}: ${stage.run}`)
  const start = performance.now()
  const counts = await runStage(stage)
  results.push({ name: stage.name, ...counts, seconds: (performance.now() - start) / 1000 })
}

for (const { name, shown } of results.filter((r) => r.failed > 0))
  console.log(`\n== ${name}: what failed\n${shown.map((line) => line.slice(0, 300)).join('\n')}`)
console.log('')
for (const { name, seconds, passed, failed } of results) {
  const time = `${seconds.toFixed(0).padStart(6)} s`
  console.log(`${name.padEnd(14)}${time}  ${passed} passed, ${failed} failed`)
}
const sum = (key) => results.reduce((total, r) => total + r[key], 0)
console.log(`\n${sum('passed')} passed, ${sum('failed')} failed`)
process.exit(sum('failed') === 0 ? 0 : 1)

// The fuzzers: @jazzer.js/core over the file reader and over the arguments of public calls, guided
// by the coverage of dist/, with the addon under AddressSanitizer and UBSan.
//
// What they find is written to build/torture. The kept inputs are in corpus/, which
// test/fuzz.test.ts replays; with --keep the inputs that add coverage are merged into it.

import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, readdirSync } from 'node:fs'
import { createRequire } from 'node:module'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Part } from '../part.js'
import { loadingOfFuzzer } from './old-glibc.js'

const root = fileURLToPath(new URL('../../..', import.meta.url))
const here = fileURLToPath(new URL('.', import.meta.url))
const work = join(root, 'build/torture')
const command = join(dirname(createRequire(import.meta.url).resolve('@jazzer.js/core')), 'cli.js')
const part = new Part()

/** The addon under sanitizers, where MEMORY_LAYERS_PREBUILD finds it. */
function buildAddon(): void {
  const { status } = spawnSync('npm', ['run', '--silent', 'build:sanitized'], {
    cwd: root,
    stdio: ['ignore', 'ignore', 'inherit'],
  })
  if (status !== 0) throw new Error('the addon under sanitizers could not be built')
}

const libraries = ['libasan.so', 'libubsan.so'].map((name) =>
  execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim(),
)

/** Runs libFuzzer with these flags; its output and exit code. */
function runFuzzer(target: string, folders: readonly string[], flags: readonly string[]) {
  const loading = loadingOfFuzzer(work)
  const args = [
    ...(loading.require ? ['--require', loading.require] : []),
    command,
    join(here, 'targets.mjs'),
    ...folders,
    `--fuzzEntryPoint=${target}`,
    '--includes=/dist/',
    '--',
    `-artifact_prefix=${work}/${target}-`,
    ...flags,
  ]
  const { status, signal, stderr } = spawnSync(process.execPath, args, {
    cwd: work,
    encoding: 'utf8',
    maxBuffer: 2 ** 28,
    env: {
      ...process.env,
      MEMORY_LAYERS_PREBUILD: join(root, 'build/sanitized'),
      // The fuzzer first: libasan.so has functions of the same names for the counters of coverage,
      // which do nothing.
      LD_PRELOAD: [loading.fuzzer, ...libraries, loading.preload].filter(Boolean).join(':'),
      ASAN_OPTIONS:
        'verify_asan_link_order=0:detect_leaks=0:allocator_may_return_null=1:' +
        'max_allocation_size_mb=1024',
      UBSAN_OPTIONS: 'print_stacktrace=1',
    },
  })
  return { ended: signal ?? status, output: stderr }
}

function fuzz(target: string, seconds: number): void {
  const [found, kept] = [join(work, target), join(here, 'corpus', target)]
  for (const folder of [found, kept]) mkdirSync(folder, { recursive: true })
  const { ended, output } = runFuzzer(
    target,
    [found, kept],
    [
      `-max_total_time=${Math.ceil(seconds)}`,
      `-seed=${part.seed}`,
      '-max_len=512',
      '-print_final_stats=1',
      '-timeout=30',
      '-rss_limit_mb=6000',
    ],
  )
  const last = (pattern: RegExp) => Number([...output.matchAll(pattern)].at(-1)?.[1] ?? 0)
  part.count(`inputs of ${target}`, last(/number_of_executed_units:\s*(\d+)/g))
  const edges = last(/\bcov: (\d+)/g)
  part.count(`edges of dist/ that ${target} covers`, edges)
  part.count(`kept inputs of ${target}`, readdirSync(kept).length)
  part.check(ended === 0, () => `${target} (ended with ${ended})\n${output.slice(-4000)}`)
  part.check(ended !== 0 || edges > 0, () => `${target}: no coverage guides the fuzzer`)
}

/** Adds the inputs that reach something new to the kept ones. */
function keep(target: string): void {
  const [found, kept] = [join(work, target), join(here, 'corpus', target)]
  const { ended, output } = runFuzzer(target, [kept, found], ['-merge=1', '-max_len=512'])
  part.check(ended === 0, () => `merging ${target}: ${output.slice(-2000)}`)
}

buildAddon()
const targets = ['file', 'arguments']
for (const target of targets) {
  fuzz(target, part.seconds / targets.length)
  if (process.argv.includes('--keep')) keep(target)
}
part.end()

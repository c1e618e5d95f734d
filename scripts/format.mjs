// `npm run format` formats every file; with --check it only reports: clang-format 19 for C++ and
// CUDA, Biome for TypeScript, JavaScript and JSON, Prettier for Markdown.

import { spawnSync } from 'node:child_process'
import { root, trackedFiles } from './tracked-files.mjs'

const check = process.argv.includes('--check')
const files = trackedFiles()

function run(command, args, missing) {
  const { error, status } = spawnSync(command, args, { cwd: root, stdio: 'inherit' })
  if (error) console.error(`format: ${command} can't be run (${error.message}). ${missing}`)
  return !error && status === 0
}

const ok = [
  run(
    'clang-format-19',
    [
      ...(check ? ['--dry-run', '-Werror'] : ['-i']),
      ...files.filter((f) => /\.(cpp|cu|cuh|h)$/.test(f)),
    ],
    'Install it: apt-get install clang-format-19.',
  ),
  run('npx', ['biome', ...(check ? ['ci'] : ['check', '--write']), '.'], 'Run npm ci.'),
  run(
    'npx',
    [
      'prettier',
      '--log-level=warn',
      check ? '--check' : '--write',
      ...files.filter((f) => f.endsWith('.md')),
    ],
    'Run npm ci.',
  ),
]
process.exit(ok.every(Boolean) ? 0 : 1)

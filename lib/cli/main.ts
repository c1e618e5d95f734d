#!/usr/bin/env node
// npx memory-layers build | doctor | plan. Works without a native binary: only --probe, a child
// process, loads it.

import { packageVersion } from '../binary.js'
import { mpiLibrary } from '../distributed/launcher.js'
import { nearestName } from '../options.js'
import { build } from './build.js'
import { doctor } from './doctor.js'
import { printPlan } from './plan.js'
import { exitOnClosedPipe, print, printError } from './text.js'

const usage = `Usage: npx memory-layers <command>

  doctor    what this machine has, which binary is used, which devices work
  build     compile the native binary from source, for a machine that has no
            prebuilt one; says what is missing
  plan      how large a published model is, and what its training step moves;
            memory-layers plan --help

Options of build:
  --mpi[=mpicxx]       the addon for MPI instead, which memory-layers/distributed
                       needs, with the compiler wrapper of the local MPI
  --cuda auto|on|off   the CUDA backend; auto (default) builds it where nvcc is
  -D NAME=VALUE        a CMake definition, may be repeated

  --version, --help`

async function main(args: string[]): Promise<number> {
  const [command, ...rest] = args
  if (command === undefined || command === '--help' || command === '-h' || command === 'help') {
    print(usage)
    return command === undefined ? 2 : 0
  }
  if (command === '--version' || command === '-v') {
    print(packageVersion())
    return 0
  }
  if (command === '--probe') {
    const { native } = await import('../binding.js')
    print(
      JSON.stringify({
        devices: native.devices(),
        sets: native.isaNames(),
        cuda: native.cudaToolkit(),
      }),
    )
    return 0
  }
  if (command === '--probe-mpi') {
    const { native } = await import('../binding.js')
    const { loadTransport } = await import('../distributed/transport.js')
    print(mpiLibrary(native.transportLibrary(loadTransport())).name)
    return 0
  }
  if (command === 'plan') return printPlan(rest)
  if (rest.includes('--help') || rest.includes('-h')) {
    print(usage)
    return 0
  }
  if (command === 'build') return build(rest)
  if (command === 'doctor') return refuse('doctor', rest) ?? doctor(packageVersion())
  const nearest = nearestName(command, ['build', 'doctor', 'plan'])
  const hint = nearest ? ` Did you mean "${nearest}"?` : ''
  printError(`memory-layers: unknown command "${command}".${hint}\n\n${usage}`)
  return 2
}

function refuse(command: string, rest: string[]): number | undefined {
  if (rest.length === 0) return undefined
  printError(`memory-layers ${command}: takes no arguments, got "${rest[0]}".`)
  return 2
}

exitOnClosedPipe()
process.exitCode = await main(process.argv.slice(2))

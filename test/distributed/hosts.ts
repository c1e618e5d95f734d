// Two hosts on this machine: network namespaces that a pair of virtual interfaces joins, each with
// a host name of its own, so that MPI sends over TCP between them.

import { spawnSync } from 'node:child_process'
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Launch, Mpi } from './launch.js'

const name = (host: number) => `ml${process.pid}-${host}`
const link = (host: number) => `ml${process.pid % 1e8}v${host}`
const address = (host: number) => `10.77.0.1${host}`
const hosts = [0, 1]

function ip(...words: string[]): string | undefined {
  const { status, stderr, error } = spawnSync('ip', words, { encoding: 'utf8' })
  return status === 0
    ? undefined
    : error
      ? error.message
      : `ip ${words.join(' ')}: ${stderr.trim()}`
}

const inside = (host: number, ...words: string[]) => ip('netns', 'exec', name(host), ...words)

/** Makes them. @returns why not, where that needs what this process may not do */
export function makeHosts(): string | undefined {
  if (process.getuid?.() !== 0) return 'only root makes network namespaces'
  const steps = [
    ...hosts.map((host) => () => ip('netns', 'add', name(host))),
    () =>
      ip(
        ...['link', 'add', link(0), 'netns', name(0), 'type', 'veth'],
        ...['peer', 'name', link(1), 'netns', name(1)],
      ),
    ...hosts.flatMap((host) => [
      () => inside(host, 'ip', 'link', 'set', 'lo', 'up'),
      () => inside(host, 'ip', 'addr', 'add', `${address(host)}/24`, 'dev', link(host)),
      () => inside(host, 'ip', 'link', 'set', link(host), 'up'),
      () => inside(host, 'unshare', '--uts', 'true'),
    ]),
  ]
  for (const step of steps) {
    const problem = step()
    if (!problem) continue
    removeHosts()
    return problem
  }
  mkdirSync(folder, { recursive: true })
  writeFileSync(agent, agentText, { mode: 0o755 })
  return undefined
}

const folder = join(tmpdir(), `memory-layers-hosts-${process.pid}`)
const agent = join(folder, 'agent.sh')
/** What a launcher starts a command on a host with, as with rsh: HOST COMMAND… */
const agentText = `#!/bin/sh
while :; do case "$1" in -*) shift ;; *) break ;; esac; done
host=ml${process.pid}-\${1##*.1}
shift
exec ip netns exec "$host" unshare --uts sh -c "hostname $host; $*"
`

/** Ends all that runs in them, and removes them. */
export function removeHosts(): void {
  for (const host of hosts) {
    const { stdout } = spawnSync('ip', ['netns', 'pids', name(host)], { encoding: 'utf8' })
    for (const pid of (stdout ?? '').split('\n').filter(Boolean)) spawnSync('kill', ['-KILL', pid])
    ip('netns', 'del', name(host))
  }
  rmSync(folder, { recursive: true, force: true })
}

/** The network between them ends, or comes back. */
export function setLink(state: 'down' | 'up'): void {
  const problem = inside(1, 'ip', 'link', 'set', link(1), state)
  if (problem) throw new Error(problem)
}

/** Launches two ranks on each. */
export function onTwoHosts(mpi: Mpi): Launch {
  const list = hosts.map((host) => `${address(host)}:2`).join()
  const flags =
    mpi === 'openmpi'
      ? ['--mca', 'plm_rsh_agent', agent, '-H', list]
      : ['-launcher', 'rsh', '-launcher-exec', agent, '-iface', link(0), '-hosts', list]
  const first = `hostname ${name(0)}; exec "$0" "$@"`
  return { flags, under: ['ip', 'netns', 'exec', name(0), 'unshare', '--uts', 'sh', '-c', first] }
}

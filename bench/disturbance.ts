// How much of the machine other processes use, from /proc; unknown where there is none.

import { readFileSync } from 'node:fs'

const ticksPerSecond = 100 // of /proc, on every Linux this package runs on

interface Snapshot {
  at: number
  busy: number
  own: number
}

function ticksOf(pid: number): number {
  try {
    // "pid (name) state …": user and system time are fields 14 and 15; a name may hold spaces.
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ').at(-1)!.split(' ')
    return Number(fields[11]) + Number(fields[12])
  } catch {
    return 0
  }
}

function snapshot(pids: readonly number[]): Snapshot | undefined {
  try {
    // cpu user nice system idle iowait irq softirq steal
    const [user, nice, system, , , irq, softirq, steal] = readFileSync('/proc/stat', 'utf8')
      .split('\n')[0]!
      .trim()
      .split(/\s+/)
      .slice(1)
      .map(Number)
    const busy = user! + nice! + system! + irq! + softirq! + steal!
    return {
      at: performance.now(),
      busy,
      own: [process.pid, ...pids].reduce((sum, pid) => sum + ticksOf(pid), 0),
    }
  } catch {
    return undefined
  }
}

/** A call returns the cores that processes other than this one and `pids` used since the last. */
export function watchOthers(pids: readonly number[]): () => number | undefined {
  let last = snapshot(pids)
  return () => {
    const now = snapshot(pids)
    const before = last
    last = now
    if (!now || !before || now.at === before.at) return undefined
    const others = now.busy - before.busy - (now.own - before.own)
    return Math.max(0, others / ticksPerSecond / ((now.at - before.at) / 1e3))
  }
}

// What each part of `npm run torture` is given, and how it reports. A part is a program of its own:
//   node --expose-gc --import tsx test/torture/<part>/main.ts [--seconds n] [--seed n]

/** What a part sends to scripts/torture.mjs, and prints when it is run alone. */
export interface PartReport {
  passed: number
  failed: number
  /** What was done, in the order of its first count. */
  counts: Record<string, number>
}

/** The time, the seed and the counts of a part. */
export class Part {
  readonly seed: number
  readonly seconds: number
  readonly #end: number
  readonly #report: PartReport = { passed: 0, failed: 0, counts: {} }

  constructor(args = process.argv.slice(2)) {
    const option = (name: string, otherwise: number) => {
      const at = args.indexOf(`--${name}`)
      return at < 0 ? otherwise : Number(args[at + 1])
    }
    this.seed = option('seed', 1)
    this.seconds = option('seconds', 60)
    this.#end = performance.now() + this.seconds * 1000
  }

  /** Whether less than `share` of the time has gone. */
  timeLeft(share = 1): boolean {
    return performance.now() < this.#end - (1 - share) * this.seconds * 1000
  }

  count(name: string, n = 1): void {
    this.#report.counts[name] = (this.#report.counts[name] ?? 0) + n
  }

  /** The larger of what the name has and `value`. */
  most(name: string, value: number): void {
    this.#report.counts[name] = Math.max(this.#report.counts[name] ?? 0, value)
  }

  /** One statement about the package: passed, or failed with what is wrong. */
  check(ok: boolean, wrong: () => string): boolean {
    if (ok) this.#report.passed++
    else this.fail(wrong())
    return ok
  }

  fail(wrong: string): void {
    this.#report.failed++
    console.log(`WRONG ${wrong}`)
  }

  /** What a process of this part has done. */
  add({ passed, failed, counts }: PartReport): void {
    this.#report.passed += passed
    this.#report.failed += failed
    for (const [name, n] of Object.entries(counts)) this.count(name, n)
  }

  /** Reports and ends the process. */
  end(): never {
    const { passed, failed, counts } = this.#report
    if (process.send) process.send(this.#report)
    else {
      for (const [name, n] of Object.entries(counts)) console.log(`${n} ${name}`)
      console.log(`${passed} passed, ${failed} failed`)
    }
    process.exit(failed === 0 ? 0 : 1)
  }
}

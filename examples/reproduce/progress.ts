// One bar over all training steps of a command, with the time that is left.

import cliProgress from 'cli-progress'

export class Progress {
  readonly #bar = new cliProgress.SingleBar(
    {
      format: '  {bar} {percentage} %, {eta_formatted} left  {run}',
      hideCursor: true,
      etaBuffer: 200,
      noTTYOutput: false,
      clearOnComplete: true,
    },
    cliProgress.Presets.shades_classic,
  )
  #total = 0
  #done = 0
  #run = ''

  /** So many steps more. */
  expect(steps: number): void {
    this.#total += steps
    if (this.#done === 0) this.#bar.start(this.#total, 0, { run: this.#run })
    this.#bar.setTotal(this.#total)
  }

  /** What runs now. */
  name(run: string): void {
    this.#run = run
    this.#bar.update(this.#done, { run })
  }

  advance(steps: number): void {
    this.#done += steps
    this.#bar.update(this.#done, { run: this.#run })
  }

  stop(): void {
    this.#bar.stop()
  }
}

// The demo: the same facts, the same multiply-adds, a dense block and a memory layer.

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { styleText } from 'node:util'
import cliProgress from 'cli-progress'
import { endWithReader } from '../../lib/cli/text.js'
import { type Device, type DeviceName, MemoryLayersError, openDevice } from '../../lib/index.js'
import { writeChart } from './chart.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from './checkpoint.js'
import { type Flags, help, readFlags, UsageError } from './cli.js'
import { attribution, countryName, type Facts, loadFacts, majority } from './data.js'
import { collisions, encode } from './encoder.js'
import { type Kind, Model, multiplyAdds } from './model.js'
import { ask, chooseQuestions } from './questions.js'
import { type Encoded, type Point, type Profile, stepsOf, train } from './train.js'

const rates = { memory: { lr: 3e-3, tableLr: 6e-3 }, dense: { lr: 3e-3, tableLr: 3e-3 } }

interface Result {
  label: string
  kind: Kind
  epochs: number
  points: Point[]
  size: number
}

const percent = (x: number) => `${(x * 100).toFixed(2)} %`
const thousands = (x: number) => x.toLocaleString('en')

async function run(
  device: Device,
  data: Encoded,
  flags: Flags,
  kind: Kind,
  label: string,
  epochs: number,
): Promise<{ model: Model; result: Result }> {
  const model = new Model(device, kind, data.facts.countries.length, flags.seed)
  const format = `  ${label.padEnd(28)} {bar} epoch {epoch}/{epochs}  loss {loss}  {duration} s`
  const bar = new cliProgress.SingleBar(
    { format, noTTYOutput: false, hideCursor: true },
    cliProgress.Presets.shades_classic,
  )
  bar.start(epochs, 0, { epoch: 0, epochs, loss: '-' })
  const profile: Profile = {}
  const points = await train(device, model, data, {
    epochs,
    ...(flags.profile && { profile }),
    seed: flags.seed,
    ...rates[kind],
    onProgress: (p) =>
      bar.update(p.epoch - 1 + p.step / p.steps, {
        epoch: p.epoch,
        epochs: p.epochs,
        loss: p.loss.toFixed(4),
      }),
  })
  bar.stop()
  const last = points.at(-1)!
  console.log(
    `  ${label}: ${percent(last.recall)} of ${thousands(data.facts.names.length)} facts after ${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}, ${last.seconds.toFixed(1)} s`,
  )
  if (flags.profile) printProfile(profile, epochs * stepsOf(data.facts.names.length), last.seconds)
  return { model, result: { label, kind, epochs, points, size: model.size } }
}

/**
 * The device's operations by their share of a training step, and what of the step no operation ran
 * in.
 */
function printProfile(profile: Profile, steps: number, seconds: number): void {
  const wall = (seconds * 1000) / steps
  const row = (name: string, calls: string, ms: number) =>
    console.log(
      `    ${name.padEnd(32)} ${calls.padStart(5)} ${ms.toFixed(3).padStart(12)} ${((100 * ms) / wall).toFixed(1).padStart(8)} %`,
    )
  console.log(`\n    ${'operation'.padEnd(32)} calls   ms of a step   of the step`)
  const sorted = Object.entries(profile).sort((a, b) => b[1].milliseconds - a[1].milliseconds)
  for (const [name, t] of sorted) row(name, (t.calls / steps).toFixed(1), t.milliseconds / steps)
  const busy = sorted.reduce((sum, [, t]) => sum + t.milliseconds, 0) / steps
  row('between operations', '', Math.max(0, wall - busy))
  row('whole step', '', wall)
  console.log('')
}

function table(results: readonly Result[], facts: Facts): void {
  const rows = results.map((r) => {
    const last = r.points.at(-1)!
    return [
      r.label,
      percent(last.recall),
      String(r.epochs),
      last.seconds.toFixed(1),
      thousands(r.size),
      thousands(multiplyAdds),
    ]
  })
  rows.push(['always the largest country', percent(majority(facts)), '', '', '', ''])
  const head = ['model', 'recall', 'epochs', 'seconds', 'parameters', 'multiply-adds of the block']
  const widths = head.map((h, c) => Math.max(h.length, ...rows.map((r) => r[c]!.length)))
  const line = (r: readonly string[]) =>
    `  ${r.map((v, c) => (c === 0 ? v.padEnd(widths[c]!) : v.padStart(widths[c]!))).join('   ')}`
  console.log(`\n${styleText('bold', line(head))}`)
  for (const r of rows) console.log(line(r))
  console.log(
    '\n  Recall is of the facts that were trained, all of them; there is no held-out set, since a fact that was never told can not be known.',
  )
}

async function learn(device: Device, flags: Flags): Promise<void> {
  const facts = loadFacts(flags.facts)
  const rows = encode(facts.names, flags.seed)
  const same = collisions(rows)
  if (same > 0) throw new Error(`${same} names have the encoding of another`)
  console.log(
    `${thousands(facts.names.length)} facts, ${facts.countries.length} countries, on ${device.name} (${device.description}; ${device.reason})\n`,
  )
  const data = { rows, facts }

  const memory = await run(device, data, flags, 'memory', 'Memory+', flags.epochs)
  const dense = await run(device, data, flags, 'dense', 'dense, same epochs', flags.epochs)
  const seconds = memory.result.points.at(-1)!.seconds
  const each = dense.result.points.at(-1)!.seconds / flags.epochs
  const affordable = Math.max(1, Math.round(seconds / each))
  const longer = await run(device, data, flags, 'dense', 'dense, same seconds', affordable)
  const results = [memory.result, dense.result, longer.result]
  table(results, facts)

  const checkpoint: Checkpoint = {
    models: { memory: memory.model, dense: longer.model },
    countries: facts.countries,
    facts: facts.names.length,
    seed: flags.seed,
  }
  await mkdir(flags.out, { recursive: true })
  const questions = chooseQuestions(facts)
  const answers = await ask(
    device,
    checkpoint,
    questions.map((i) => facts.names[i]!),
  )
  console.log('')
  for (const [q, i] of questions.entries()) {
    const truth = countryName(facts.countries[facts.answers[i]!]!)
    const mark = (a: { country: string }) =>
      a.country === truth ? styleText('green', a.country) : styleText('red', `${a.country} ✗`)
    console.log(
      `  Which country is ${facts.names[i]} in?  Memory+: ${mark(answers.memory[q]!)}   dense: ${mark(answers.dense[q]!)}`,
    )
  }
  const chart = join(flags.out, 'recall.svg')
  const file = join(flags.out, 'checkpoint.safetensors')
  const title = `Recall of ${thousands(facts.names.length)} facts, ${thousands(multiplyAdds)} multiply-adds a fact`
  const note =
    'Points before the last are measured on 5,000 of the facts. City data: GeoNames, CC BY 4.0.'
  await writeChart(chart, title, results, note)
  await saveCheckpoint(file, checkpoint)
  console.log(
    `\n  chart: ${chart}\n  checkpoint: ${file}   (npm run demo -- --ask "Albuquerque" answers from it)\n\n${attribution}`,
  )
}

async function answer(device: Device, flags: Flags, name: string): Promise<void> {
  const file = join(flags.out, 'checkpoint.safetensors')
  if (!existsSync(file))
    throw new UsageError(
      `There is no checkpoint at ${file} yet: run \`npm run demo\` first, or name its folder with --out.`,
    )
  const checkpoint = await loadCheckpoint(file, device)
  const facts = loadFacts(checkpoint.facts)
  const at = facts.names.indexOf(name)
  if (at < 0)
    throw new UsageError(
      `"${name}" is not among the ${thousands(checkpoint.facts)} names this checkpoint was taught.`,
    )
  const answers = await ask(device, checkpoint, [name])
  console.log(`Which country is ${name} in?`)
  console.log(`  Memory+: ${answers.memory[0]!.country} (${percent(answers.memory[0]!.sure)})`)
  console.log(`  dense:   ${answers.dense[0]!.country} (${percent(answers.dense[0]!.sure)})`)
  console.log(`  truth:   ${countryName(facts.countries[facts.answers[at]!]!)}`)
}

async function main(): Promise<void> {
  const flags = readFlags(process.argv.slice(2))
  if (flags.help) {
    console.log(help)
    return
  }
  const device = openDevice(
    flags.device as DeviceName,
    flags.threads === undefined ? {} : { threads: flags.threads },
  )
  if (flags.ask !== undefined) await answer(device, flags, flags.ask)
  else await learn(device, flags)
}

endWithReader()
main().catch((error) => {
  const mistake = error instanceof UsageError || error instanceof MemoryLayersError
  console.error(mistake ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
})

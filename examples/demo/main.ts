// The demo: the same facts, the same multiply-adds, a dense block and a memory layer.

import { existsSync } from 'node:fs'
import { mkdir } from 'node:fs/promises'
import { join } from 'node:path'
import { styleText } from 'node:util'
import cliProgress from 'cli-progress'
import { exitOnClosedPipe } from '../../lib/cli/text.js'
import { type Device, type DeviceName, MemoryLayersError, openDevice } from '../../lib/index.js'
import { writeChart } from './chart.js'
import { type Checkpoint, loadCheckpoint, saveCheckpoint } from './checkpoint.js'
import { type Flags, help, readFlags, UsageError } from './cli.js'
import { attribution, countryName, type Facts, loadFacts } from './data.js'
import { collisions, encode } from './encoder.js'
import { type Kind, Model, multiplyAdds } from './model.js'
import { ask, chooseQuestions } from './questions.js'
import {
  percent,
  printProfile,
  printShortness,
  printTable,
  type Result,
  thousands,
} from './report.js'
import { type Encoded, type Profile, stepsOf, train } from './train.js'

const rates = { memory: { lr: 3e-3, tableLr: 6e-3 }, dense: { lr: 3e-3, tableLr: 3e-3 } }

async function run(
  device: Device,
  data: Encoded,
  flags: Flags,
  kind: Kind,
  label: string,
  epochs: number,
): Promise<{ model: Model; result: Result }> {
  const model = new Model(device, kind, data.facts.countries.length, flags.seed, flags.compute)
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
  const facts = data.facts.names.length
  const after = `${epochs} ${epochs === 1 ? 'epoch' : 'epochs'}, ${last.seconds.toFixed(1)} s`
  console.log(`  ${label}: ${percent(last.recall)} of ${thousands(facts)} facts after ${after}`)
  if (flags.profile) printProfile(profile, epochs * stepsOf(facts), last.seconds)
  return { model, result: { label, kind, epochs, points, size: model.size } }
}

async function learn(device: Device, flags: Flags): Promise<void> {
  const facts = loadFacts(flags.facts)
  const rows = encode(facts.names, flags.seed)
  const same = collisions(rows)
  if (same > 0) throw new Error(`${same} names have the encoding of another`)
  const count = thousands(facts.names.length)
  console.log(
    `${count} facts, ${facts.countries.length} countries, on ${device.name} ` +
      `(${device.description}; ${device.reason})\n`,
  )
  const data = { rows, facts }

  const memory = await run(device, data, flags, 'memory', 'Memory+', flags.epochs)
  const dense = await run(device, data, flags, 'dense', 'dense, same epochs', flags.epochs)
  const seconds = memory.result.points.at(-1)!.seconds
  const secondsPerEpoch = dense.result.points.at(-1)!.seconds / flags.epochs
  const epochs = Math.max(1, Math.round(seconds / secondsPerEpoch))
  const longer = await run(device, data, flags, 'dense', 'dense, same seconds', epochs)
  const results = [memory.result, dense.result, longer.result]
  printTable(results, facts)
  printShortness(flags.epochs, stepsOf(facts.names.length))

  const checkpoint: Checkpoint = {
    models: { memory: memory.model, dense: longer.model },
    countries: facts.countries,
    facts: facts.names.length,
    seed: flags.seed,
  }
  await printAnswers(device, checkpoint, facts)
  await mkdir(flags.out, { recursive: true })
  const chart = join(flags.out, 'recall.svg')
  const file = join(flags.out, 'checkpoint.safetensors')
  const title = `Recall of ${count} facts, ${thousands(multiplyAdds)} multiply-adds a fact`
  const note =
    'Points before the last are measured on 5,000 of the facts. City data: GeoNames, CC BY 4.0.'
  await writeChart(chart, title, results, note)
  await saveCheckpoint(file, checkpoint)
  const hint = '(npm run demo -- --ask "Albuquerque" answers from it)'
  console.log(`\n  chart: ${chart}\n  checkpoint: ${file}   ${hint}\n\n${attribution}`)
}

/** What both models answer for a dozen of the facts. */
async function printAnswers(device: Device, checkpoint: Checkpoint, facts: Facts): Promise<void> {
  const questions = chooseQuestions(facts)
  const names = questions.map((i) => facts.names[i]!)
  const answers = await ask(device, checkpoint, names)
  console.log('')
  for (const [q, i] of questions.entries()) {
    const truth = countryName(facts.countries[facts.answers[i]!]!)
    const mark = ({ country }: { country: string }) =>
      country === truth ? styleText('green', country) : styleText('red', `${country} ✗`)
    const [memory, dense] = [mark(answers.memory[q]!), mark(answers.dense[q]!)]
    console.log(`  Which country is ${names[q]} in?  Memory+: ${memory}   dense: ${dense}`)
  }
}

async function answer(device: Device, flags: Flags, name: string): Promise<void> {
  const file = join(flags.out, 'checkpoint.safetensors')
  if (!existsSync(file))
    throw new UsageError(
      `There is no checkpoint at ${file} yet: ` +
        'run `npm run demo` first, or name its folder with --out.',
    )
  const checkpoint = await loadCheckpoint(file, device)
  const facts = loadFacts(checkpoint.facts)
  const fact = facts.names.indexOf(name)
  if (fact < 0)
    throw new UsageError(
      `"${name}" is not among the ${thousands(checkpoint.facts)} names this checkpoint was taught.`,
    )
  const answers = await ask(device, checkpoint, [name])
  console.log(`Which country is ${name} in?`)
  console.log(`  Memory+: ${answers.memory[0]!.country} (${percent(answers.memory[0]!.sure)})`)
  console.log(`  dense:   ${answers.dense[0]!.country} (${percent(answers.dense[0]!.sure)})`)
  console.log(`  truth:   ${countryName(facts.countries[facts.answers[fact]!]!)}`)
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

exitOnClosedPipe()
main().catch((error) => {
  const mistake = error instanceof UsageError || error instanceof MemoryLayersError
  console.error(mistake ? error.message : error)
  process.exitCode = error instanceof UsageError ? 2 : 1
})

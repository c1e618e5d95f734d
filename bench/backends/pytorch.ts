// PyTorch, in a Python process that is kept alive and times itself (bench/peers/pytorch_peer.py).
import { type ChildProcessByStdio, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import type { Readable, Writable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import type { HostTable } from '../data.js'
import type { Contender, Result } from '../harness.js'
import {
  type Backend,
  type BagProblem,
  type BagWeightsProblem,
  type GemmProblem,
  type LookupProblem,
  lr,
  type StepProblem,
  type UpdateProblem,
} from './backend.js'

type Data = Float32Array | Int32Array | Uint16Array
interface Input {
  name: string
  dtype: 'float32' | 'int32' | 'float16'
  shape: readonly number[]
  /** One chunk after another. */
  data: readonly Data[]
}

const script = fileURLToPath(new URL('../peers/pytorch_peer.py', import.meta.url))

const chunkBytes = 2 ** 26 // a stream takes no buffer beyond 2 GiB

// A core type set for another program would cost OpenBLAS half its speed.
function environment(): NodeJS.ProcessEnv {
  const { OPENBLAS_CORETYPE: _core, OPENBLAS_L2_SIZE: _l2, ...rest } = process.env
  return rest
}

/** The first Python that can import torch; undefined where there is none. */
export function findPython(): string | undefined {
  return ['python3', '/usr/bin/python3'].find(
    (python) =>
      spawnSync(python, ['-c', 'import torch, numpy'], { stdio: 'ignore', env: environment() })
        .status === 0,
  )
}

export class Python {
  readonly #child: ChildProcessByStdio<Writable, Readable, null>
  #pending: Buffer = Buffer.alloc(0)
  #ended = false
  #notify: () => void = () => undefined
  #loaded: string | undefined
  #next = 0
  readonly #problems = new Map<object, { id: number; users: number }>()
  #lastCall: Promise<unknown> = Promise.resolve()

  private constructor(child: ChildProcessByStdio<Writable, Readable, null>) {
    this.#child = child
    child.stdin.on('error', () => undefined) // the missing answer reports it
    child.stdout.on('data', (chunk: Buffer) => {
      this.#pending = Buffer.concat([this.#pending, chunk])
      this.#notify()
    })
    child.stdout.on('end', () => {
      this.#ended = true
      this.#notify()
    })
  }

  get pid(): number {
    return this.#child.pid!
  }

  static async start(python: string): Promise<{ process: Python; version: string }> {
    const child = spawn(python, [script], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: environment(),
    })
    const process = new Python(child)
    const { version } = await process.#read()
    return { process, version: String(version) }
  }

  /** Waits for more of the answer. */
  #more(): Promise<void> {
    if (this.#ended) throw new Error('the Python process ended')
    return new Promise((resolve) => {
      this.#notify = resolve
    })
  }

  async #bytes(count: number): Promise<Buffer> {
    while (this.#pending.length < count) await this.#more()
    const bytes = this.#pending.subarray(0, count)
    this.#pending = this.#pending.subarray(count)
    return bytes
  }

  async #line(): Promise<string> {
    while (!this.#pending.includes(10)) await this.#more()
    return (await this.#bytes(this.#pending.indexOf(10) + 1)).toString()
  }

  async #read(): Promise<Record<string, unknown> & { outputs: Result }> {
    const message = JSON.parse(await this.#line()) as Record<string, unknown> & {
      arrays: [string, string, number[]][]
      error?: string
    }
    const outputs: Record<string, ArrayLike<number>> = {}
    for (const [name, dtype, shape] of message.arrays) {
      const count = shape.reduce((a, b) => a * b, 1)
      const bytes = Uint8Array.from(await this.#bytes(count * 4)).buffer
      outputs[name] = dtype === 'int32' ? new Int32Array(bytes) : new Float32Array(bytes)
    }
    if (message.error) throw new Error(message.error)
    return { ...message, outputs }
  }

  /** One message and its answer; calls wait for each other. */
  call(
    message: Record<string, unknown>,
    inputs: readonly Input[] = [],
  ): Promise<Record<string, unknown> & { outputs: Result }> {
    const answer = this.#lastCall.then(async () => {
      const arrays = inputs.map(({ name, dtype, shape }) => [name, dtype, shape])
      this.#child.stdin.write(`${JSON.stringify({ ...message, arrays })}\n`)
      for (const { data } of inputs)
        for (const { buffer, byteOffset, byteLength } of data)
          for (let at = 0; at < byteLength; at += chunkBytes) {
            const chunk = new Uint8Array(
              buffer,
              byteOffset + at,
              Math.min(chunkBytes, byteLength - at),
            )
            if (!this.#child.stdin.write(chunk)) await once(this.#child.stdin, 'drain')
          }
      return this.#read()
    })
    this.#lastCall = answer.catch(() => undefined)
    return answer
  }

  async table(table: HostTable): Promise<string> {
    if (this.#loaded !== table.key) {
      await this.forget()
      const dtype = table.dtype as Input['dtype']
      await this.call({ op: 'table', name: table.key }, [
        { name: 'data', dtype, shape: [table.slots, table.dim], data: [table.data as Data] },
      ])
      this.#loaded = table.key
    }
    return table.key
  }

  /**
   * Prepares a problem for its first contender; others that run the same problem with other threads
   * share it.
   */
  async contender(
    problem: object,
    kind: string,
    threads: number,
    message: Record<string, unknown>,
    inputs: readonly Input[],
  ): Promise<Contender> {
    let shared = this.#problems.get(problem)
    if (!shared) {
      shared = { id: this.#next++, users: 0 }
      await this.call({ op: 'prepare', id: shared.id, kind, threads, ...message }, inputs)
      this.#problems.set(problem, shared)
    }
    const { id } = shared
    shared.users++
    return {
      run: () => undefined,
      time: async (sets) => Number((await this.call({ op: 'time', id, threads, sets })).seconds),
      result: async () => (await this.call({ op: 'result', id, threads })).outputs,
      release: async () => {
        if (--shared.users > 0) return
        this.#problems.delete(problem)
        await this.call({ op: 'release', id })
      },
    }
  }

  async forget(): Promise<void> {
    if (this.#loaded !== undefined) await this.call({ op: 'forget' })
    this.#loaded = undefined
  }

  async close(): Promise<void> {
    if (this.#child.exitCode !== null) return
    this.#child.stdin.end()
    await once(this.#child, 'exit')
  }
}

export class PyTorch implements Backend {
  readonly name = 'PyTorch'
  readonly threads: number
  // GNU OpenMP's threads spin for a while after their work.
  readonly settle = 10
  readonly #python: Python

  constructor(threads: number, python: Python) {
    this.threads = threads
    this.#python = python
  }

  async #bagContender(
    kind: string,
    problem: BagProblem,
    message: Record<string, unknown>,
    more: readonly Input[],
  ) {
    const { table, sets, tokens, bag } = problem
    if (table.dtype === 'int8' || table.dtype === 'bfloat16') return undefined
    const shape = [sets.length, tokens, bag]
    return this.#python.contender(
      problem,
      kind,
      this.threads,
      { table: await this.#python.table(table), ...message },
      [
        { name: 'indices', dtype: 'int32', shape, data: sets.map((s) => s.indices) },
        { name: 'weights', dtype: 'float32', shape, data: sets.map((s) => s.weights) },
        ...more,
      ],
    )
  }

  #dy = ({ dy, tokens, table }: BagWeightsProblem): Input => ({
    name: 'dy',
    dtype: 'float32',
    shape: [tokens, table.dim],
    data: [dy],
  })

  async bag(problem: BagProblem): Promise<Contender | undefined> {
    return this.#bagContender('bag', problem, {}, [])
  }

  async bagWeights(problem: BagWeightsProblem): Promise<Contender | undefined> {
    return problem.table.dtype === 'float32'
      ? this.#bagContender('bagWeights', problem, {}, [this.#dy(problem)])
      : undefined
  }

  async update(problem: UpdateProblem): Promise<Contender | undefined> {
    const { rule, sample } = problem
    return this.#bagContender('update', problem, { rule, lr }, [
      this.#dy(problem),
      { name: 'sample', dtype: 'int32', shape: [sample.length], data: [sample] },
    ])
  }

  async lookup(problem: LookupProblem): Promise<Contender> {
    const { shape, keys, queries } = problem
    const { tokens, heads, knn, half, nKeys } = shape
    return this.#python.contender(problem, 'lookup', this.threads, { knn }, [
      { name: 'keys', dtype: 'float32', shape: [heads, 2, nKeys, half], data: [keys] },
      {
        name: 'queries',
        dtype: 'float32',
        shape: [queries.length, tokens, heads, 2, half],
        data: queries,
      },
    ])
  }

  async gemm(problem: GemmProblem): Promise<Contender> {
    const { shape, product, weight, inputs, dy } = problem
    const { rows, inner, columns } = shape
    return this.#python.contender(problem, 'gemm', this.threads, { product }, [
      { name: 'weight', dtype: 'float32', shape: [columns, inner], data: [weight] },
      { name: 'inputs', dtype: 'float32', shape: [inputs.length, rows, inner], data: inputs },
      { name: 'dy', dtype: 'float32', shape: [rows, columns], data: [dy] },
    ])
  }

  async step(problem: StepProblem): Promise<Contender> {
    const { shape, sets } = problem
    const input = (name: 'tokens' | 'targets'): Input => ({
      name,
      dtype: 'int32',
      shape: [sets.length, shape.batch, shape.time],
      data: sets.map((set) => set[name]),
    })
    const inputs = [input('tokens'), input('targets')]
    return this.#python.contender(problem, 'step', this.threads, { shape, lr }, inputs)
  }

  forget(): Promise<void> {
    return this.#python.forget()
  }

  close(): Promise<void> {
    return this.#python.close()
  }
}

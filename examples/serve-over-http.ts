// Serves a layer over HTTP without ever blocking the event loop: requests are collected while the
// device is busy, and run as one batch.
//
//   npx tsx examples/serve-over-http.ts          asks itself a few questions and ends
//   npx tsx examples/serve-over-http.ts 8080     serves until it is stopped:
//                                                curl -d '[0.1, 0.2, …]' localhost:8080

import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import { MemoryLayer, openDevice } from 'memory-layers'

const dim = 64
const device = openDevice()
const layer = new MemoryLayer(device, { inputDim: dim, knn: 16, nKeys: 128, keyDim: 64, seed: 1 })

interface Question {
  x: Float32Array
  answer: (y: Float32Array) => void
}
let queue: Question[] = []
let busy = false
let batches = 0

async function run(): Promise<void> {
  busy = true
  while (queue.length > 0) {
    const batch = queue
    queue = []
    batches++
    const x = device.tensor(new Float32Array(batch.flatMap((q) => [...q.x])), [batch.length, dim])
    const y = layer.infer(x)
    const data = await y.data()
    for (const [i, q] of batch.entries()) q.answer(data.subarray(i * dim, (i + 1) * dim))
    for (const t of [x, y]) t.dispose()
  }
  busy = false
}

function ask(x: Float32Array): Promise<Float32Array> {
  const answer = new Promise<Float32Array>((resolve) => queue.push({ x, answer: resolve }))
  if (!busy) run()
  return answer
}

async function numbers(request: IncomingMessage): Promise<Float32Array> {
  const chunks: Buffer[] = []
  for await (const chunk of request) chunks.push(chunk)
  const list: unknown = JSON.parse(Buffer.concat(chunks).toString())
  if (!Array.isArray(list) || list.length !== dim || !list.every(Number.isFinite))
    throw new Error(`send a JSON array of ${dim} numbers`)
  return Float32Array.from(list)
}

const server = createServer(async (request, response) => {
  try {
    response.end(JSON.stringify([...(await ask(await numbers(request)))]))
  } catch (error) {
    response.writeHead(400).end(`${(error as Error).message}\n`)
  }
})
const port = Number(process.argv[2] ?? 0)
await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve))
const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
console.log(`serving on ${url}`)

if (process.argv[2] === undefined) {
  const post = (body: unknown) => fetch(url, { method: 'POST', body: JSON.stringify(body) })
  const question = (q: number) => Array.from({ length: dim }, (_, i) => Math.sin(q + i))
  const replies = await Promise.all(Array.from({ length: 50 }, (_, q) => post(question(q))))
  const answers = await Promise.all(replies.map((r) => r.json() as Promise<number[]>))
  const how = batches < answers.length ? 'fewer batches than questions' : 'single runs'
  console.log(`${answers.length} answers of ${answers[0]!.length} numbers in ${how}`)
  console.log(`a bad question: ${(await post([1, 2])).status}`)
  server.close()
}

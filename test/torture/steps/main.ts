// Long runs: a million training steps whose memory stays flat, and work that is queued while the
// event loop goes on.

import { Part } from '../part.js'
import { eventLoop } from './event-loop.js'
import { flatMemory } from './flat-memory.js'

const part = new Part()
await eventLoop(part)
await flatMemory(part)
part.end()

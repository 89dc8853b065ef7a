// A parent for the tests: has an engine in a process of its own, says when it is ready, and goes on until it is killed.
import path from 'node:path'
import { defaultClientOptions, EngineClient } from '../../src/engine/client.ts'
import { inProcess } from '../../src/engine/worker-place.ts'
import type { Behaviour } from './client-worker.ts'

const behaviour: Behaviour = 'prints'
const entry = new URL(`./client-worker${path.extname(import.meta.url)}`, import.meta.url)
const client = new EngineClient(inProcess(entry, behaviour), defaultClientOptions)
await client.ready()
process.on('SIGTERM', () => {
  // Asked of the engine, which had the same signal.
  void client.figures().then(async (figures) => {
    process.stdout.write(figures)
    await client.close()
    process.exit()
  })
})
process.stdout.write('ready\n')

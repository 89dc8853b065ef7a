// A worker for the client's tests, as a thread and as a process: a real engine over a made-up session, with prefixes that fail or crash on demand.
import { existsSync } from 'node:fs'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import type { ResidentModel } from '../../src/engine/messages.ts'
import { toWire } from '../../src/errors/wire.ts'
import { serveEngine } from '../../src/engine/serve.ts'
import { openPort, type WorkerPort } from '../../src/engine/worker-port.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { testPrefix } from './requests.ts'

/** How the worker is to behave. */
export type Behaviour = 'works' | 'prints' | 'unable' | 'crashes at the start' | `unable beside ${string}`

const model: ResidentModel = {
  name: 'fake',
  sha256: 'model',
  tokenizerSha256: byteTokenizer.sha256,
  layers: 1,
  heads: 1,
  headDim: 2,
  positionsMax: 1_000_000,
  vocabulary: 257,
  runtime: { name: 'fake', device: 'none', precision: 'float32' },
}

async function loadPrefix(id: string): Promise<Prefix> {
  if (id === 'exit') process.exit(3)
  if (id === 'throw')
    setImmediate(() => {
      throw new Error('a bug in the worker')
    })
  if (id === 'block') for (;;);
  if (id === 'bug') throw new TypeError('a bug in the loader')
  if (id === 'throw' || id === 'never') return new Promise(() => {})
  if (id === 'good') return testPrefix(1)
  throw new ServiceError('prefix_not_found', `no prefix ${id}`, { prefixId: id, skipped: undefined })
}

async function main(behaviour: Behaviour, port: WorkerPort): Promise<void> {
  if (behaviour === 'crashes at the start') throw new Error('it does not start')
  const isUnable = behaviour.startsWith('unable beside ') && existsSync(behaviour.slice('unable beside '.length))
  if (behaviour === 'unable' || isUnable) {
    const error = new ServiceError('model_invalid', 'no model here', { file: 'config.json' })
    port.post({ type: 'unable', error: toWire(error) })
    port.close()
    return
  }
  if (behaviour === 'prints') console.log('what a library prints')
  port.post({ type: 'warning', message: 'a warning' })
  port.post({ type: 'note', message: 'a note' })
  const session = new FakeSession(257, { ...fakeLayout, positionsMax: model.positionsMax })
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits })
  const served = serveEngine(port, engine, () => Promise.resolve('# figures of the worker\n'))
  port.post({ type: 'ready', model })
  await served
  port.close()
}

const { data, port } = await openPort()
await main(data as Behaviour, port)

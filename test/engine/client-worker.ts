// A worker thread for the client's tests: a real engine over a made-up session, with prefixes that fail or crash on demand.
import { parentPort, workerData } from 'node:worker_threads'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import type { FromWorker, ResidentModel } from '../../src/engine/messages.ts'
import { toWire } from '../../src/errors/wire.ts'
import { serveEngine } from '../../src/engine/serve.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { testPrefix } from './requests.ts'

/** How the worker is to behave. */
export type Behaviour = 'works' | 'unable' | 'crashes at the start'

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
  if (id === 'bug') throw new TypeError('a bug in the loader')
  if (id === 'throw' || id === 'never') return new Promise(() => {})
  if (id === 'good') return testPrefix(1)
  throw new ServiceError('prefix_not_found', `no prefix ${id}`, { prefixId: id, skipped: undefined })
}

async function main(behaviour: Behaviour): Promise<void> {
  const port = parentPort
  if (port === null) throw new Error('this file is the entry of a worker thread')
  const post = (message: FromWorker): void => port.postMessage(message)
  if (behaviour === 'crashes at the start') throw new Error('it does not start')
  if (behaviour === 'unable') {
    post({ type: 'unable', error: toWire(new ServiceError('model_invalid', 'no model here', { file: 'config.json' })) })
    port.close()
    return
  }
  const session = new FakeSession(257, { ...fakeLayout, positionsMax: model.positionsMax })
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: defaultLimits })
  const served = serveEngine(port, engine, () => Promise.resolve('# figures of the worker\n'))
  post({ type: 'ready', model })
  await served
  port.close()
}

await main(workerData as Behaviour)

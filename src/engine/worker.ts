// The engine's worker thread: opens the model once, and generates with it until it is told to stop.
import { parentPort, workerData } from 'node:worker_threads'
import { ServiceError } from '../errors/errors.ts'
import { openModel } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { openRuntime } from '../runtime/open.ts'
import { openStore } from '../store/open.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import type { EngineWorkerData } from './client.ts'
import { Engine } from './engine.ts'
import { type FromWorker, type ResidentModel, toWire } from './messages.ts'
import type { PrefixLoader } from './request.ts'
import { serveEngine } from './serve.ts'
import { StepFigures } from './step-figures.ts'

if (parentPort === null) throw new Error('this file is the entry of a worker thread')
const port = parentPort

try {
  const { engine, figures, model, dispose } = await open(workerData as EngineWorkerData)
  const served = serveEngine(port, engine, () => figures.text())
  post({ type: 'ready', model })
  await served
  await dispose()
} catch (error) {
  post({ type: 'unable', error: toWire(error) })
}
port.close()

interface Opened {
  readonly engine: Engine
  readonly figures: StepFigures
  readonly model: ResidentModel
  readonly dispose: () => Promise<void>
}

async function open(data: EngineWorkerData): Promise<Opened> {
  const model = await openModel(data.modelFolder)
  const tokenizer = await openTokenizer(data.modelFolder)
  const { layers, heads, headDim, positionsMax, vocabulary } = model.config
  if (tokenizer.vocabulary > vocabulary) {
    throw new ServiceError(
      'model_invalid',
      `the tokenizer in ${data.modelFolder} has ${tokenizer.vocabulary} tokens, the model ${vocabulary}`,
    )
  }
  const registry = new PrefixRegistry(await openStore(data.storeUrl))
  const { runtime, info } = await openRuntime({
    choice: data.runtime,
    onnx: { threads: data.threads, packed: true },
    data: data.data,
    cudaLibraries: data.cudaLibraries,
    weights: 'lends',
    warn: (message) => post({ type: 'warning', message }),
    // The thread ends once its requests have been told; the next one opens what still works.
    onLost: (error) =>
      setImmediate(() => {
        throw error
      }),
  })
  const layout = { layers, heads, headDim, rowsMax: data.rowsMax, positionsMax }
  const session = await runtime.openSession(model.forwardGraph(runtime.segments), model.weights, layout)
  const { name, sha256 } = model
  const resident = {
    name,
    sha256,
    tokenizerSha256: tokenizer.sha256,
    layers,
    heads,
    headDim,
    positionsMax,
    vocabulary,
    runtime: info,
  }
  const loadPrefix: PrefixLoader = async (prefixId) => {
    const prefix = await registry.load(prefixId)
    checkPrefixFits(prefix.header, resident)
    return prefix
  }
  const figures: StepFigures = new StepFigures(() => engine.state)
  const engine = new Engine({ session, tokenizer, loadPrefix, limits: data.limits, observer: figures })
  return { engine, figures, model: resident, dispose: () => session.dispose() }
}

function post(message: FromWorker): void {
  port.postMessage(message)
}

// The engine's worker, a thread or a process: opens the model once, and generates with it until it is told to stop.
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { toWire } from '../errors/wire.ts'
import { type Model, openModel, playing } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { LoadingThread } from '../prefix/loading-thread.ts'
import { openRuntime } from '../runtime/open.ts'
import { openTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts'
import type { EngineWorkerData } from './client.ts'
import { Engine } from './engine.ts'
import type { ResidentModel } from './messages.ts'
import { layoutFor } from './played.ts'
import type { PrefixLoader } from './request.ts'
import { serveEngine } from './serve.ts'
import { StepFigures } from './step-figures.ts'
import { openPort } from './worker-port.ts'

const { data: workerData, port } = await openPort()

try {
  const { engine, figures, model, dispose } = await open(workerData as EngineWorkerData)
  const served = serveEngine(port, engine, () => figures.text())
  port.post({ type: 'ready', model })
  await served
  await dispose()
} catch (error) {
  port.post({ type: 'unable', error: toWire(error) })
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
  const { positionsMax, vocabulary } = model.config
  if (tokenizer.vocabulary > vocabulary) {
    throw new ServiceError(
      'model_invalid',
      `the tokenizer in ${data.modelFolder} has ${tokenizer.vocabulary} tokens, the model ${vocabulary}`,
    )
  }
  checkEnd(model, tokenizer)
  const loading = await LoadingThread.open(data.storeUrl)
  const warn = (message: string): void => port.post({ type: 'warning', message })
  const note = (message: string): void => port.post({ type: 'note', message })
  const layout = layoutFor(model, data.rowsMax, positionsMax)
  const { runtime, info } = await openRuntime({
    room: { weights: model.weights, layout, numberBytes: data.precision === 'fast' ? 2 : 4 },
    choice: data.runtime,
    onnx: { threads: data.threads, packed: true, fast: { folder: path.join(data.data, 'quantized'), note, warn } },
    data: data.data,
    cudaLibraries: data.cudaLibraries,
    warn,
    weights: 'lends',
    // The worker ends once its requests have been told; the next one opens what works then.
    onLost: (error) =>
      setImmediate(() => {
        throw error
      }),
  })
  const forward = model.forwardGraph(runtime.segments)
  const form = data.precision === 'fast' ? await runtime.decodingForm(forward, model.weights) : 'float32'
  const session = await runtime.openSession(forward, model.weights, layout, form, model.sourceGraph())
  const resident = { ...playing(model, tokenizer), vocabulary, runtime: { ...info, precision: form } }
  const loadPrefix: PrefixLoader = async (prefixId) => {
    const prefix = await loading.load(prefixId)
    checkPrefixFits(prefix.header, resident)
    return prefix
  }
  const figures: StepFigures = new StepFigures(() => engine.state)
  const engine = new Engine({ session, tokenizer, loadPrefix, model, limits: data.limits, observer: figures })
  const dispose = async (): Promise<void> => {
    await Promise.all([loading.close(), session.dispose()])
  }
  return { engine, figures, model: resident, dispose }
}

/** Texts end where both say so, or they would never end. */
function checkEnd({ framing: { end }, folder }: Model, { endOfText }: Tokenizer): void {
  if (end === null || end === endOfText) return
  const message = `the tokenizer in ${folder} ends texts with the token ${endOfText}, config.json names ${end}`
  throw new ServiceError('model_invalid', message)
}

// The engine's worker thread: opens the model once, and generates with it until it is told to stop.
import { parentPort, workerData } from 'node:worker_threads'
import { ServiceError } from '../errors/errors.ts'
import { openModel } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { createOnnxRuntime } from '../runtime/onnx/onnx.ts'
import { openStore } from '../store/open.ts'
import { openTokenizer } from '../tokenizer/tokenizer.ts'
import type { EngineWorkerData } from './client.ts'
import { Engine } from './engine.ts'
import { type FromWorker, type ResidentModel, toWire } from './messages.ts'
import type { PrefixLoader } from './request.ts'
import { serveEngine } from './serve.ts'

if (parentPort === null) throw new Error('this file is the entry of a worker thread')
const port = parentPort

try {
  const { engine, model, dispose } = await open(workerData as EngineWorkerData)
  const served = serveEngine(port, engine)
  post({ type: 'ready', model })
  await served
  await dispose()
} catch (error) {
  post({ type: 'unable', error: toWire(error) })
}
port.close()

async function open(
  data: EngineWorkerData,
): Promise<{ engine: Engine; model: ResidentModel; dispose: () => Promise<void> }> {
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
  const notes: string[] = []
  const note = (message: string): void => void notes.push(message)
  const { threads, quantizedFolder } = data
  const fast = quantizedFolder === null ? {} : { fast: { folder: quantizedFolder, note, warn: note } }
  const runtime = createOnnxRuntime({ threads, packed: true, ...fast })
  const forward = model.forwardGraph()
  const form = await runtime.decodingForm(forward, model.weights)
  const layout = { layers, heads, headDim, rowsMax: data.rowsMax, positionsMax }
  const session = await runtime.openSession(forward, model.weights, layout, form)
  const { name, sha256 } = model
  const resident = { name, sha256, tokenizerSha256: tokenizer.sha256, layers, heads, headDim, positionsMax, vocabulary }
  const opened = { ...resident, form, notes }
  const loadPrefix: PrefixLoader = async (prefixId) => {
    const prefix = await registry.load(prefixId)
    checkPrefixFits(prefix.header, resident)
    return prefix
  }
  const engine = new Engine({ session, tokenizer, loadPrefix, limits: data.limits })
  return { engine, model: opened, dispose: () => session.dispose() }
}

function post(message: FromWorker): void {
  port.postMessage(message)
}

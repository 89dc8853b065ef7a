// The worker thread's side of the conversation: requests come by message, events go back by message.
import type { MessagePort } from 'node:worker_threads'
import type { Engine } from './engine.ts'
import { type FromWorker, type ToWorker, toWire } from './messages.ts'
import type { GenerateRequest } from './request.ts'

/** Answers requests until a `close` message comes; resolves once the engine has stopped. */
export function serveEngine(port: MessagePort, engine: Pick<Engine, 'generate' | 'close'>): Promise<void> {
  const running = new Map<number, AbortController>()
  const post = (message: FromWorker): void => port.postMessage(message)

  const answer = async (id: number, request: GenerateRequest): Promise<void> => {
    const abort = new AbortController()
    running.set(id, abort)
    try {
      for await (const event of engine.generate(request, abort.signal)) post({ type: 'event', id, event })
    } catch (error) {
      post({ type: 'failed', id, error: toWire(error) })
    } finally {
      running.delete(id)
    }
  }

  return new Promise((resolve, reject) => {
    port.on('message', (message: ToWorker) => {
      if (message.type === 'generate') void answer(message.id, message.request)
      else if (message.type === 'cancel') running.get(message.id)?.abort()
      else engine.close().then(resolve, reject)
    })
  })
}

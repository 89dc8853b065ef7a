// The worker's side of the conversation: requests come by message, events go back by message.
import { toWire } from '../errors/wire.ts'
import type { Engine } from './engine.ts'
import type { GenerateEvent, GenerateRequest } from './request.ts'
import type { Account } from './stopwatch.ts'
import type { WorkerPort } from './worker-port.ts'

/** Answers requests until a `close` message comes; resolves once the engine has stopped. `figures` are for Prometheus. */
export function serveEngine(
  port: WorkerPort,
  engine: Pick<Engine, 'generate' | 'close'>,
  figures: () => Promise<string> = () => Promise.resolve(''),
): Promise<void> {
  const running = new Map<number, AbortController>()

  const answer = async (id: number, request: GenerateRequest): Promise<void> => {
    const abort = new AbortController()
    running.set(id, abort)
    let account: Account | null = null
    let done: GenerateEvent | null = null
    try {
      for await (const event of engine.generate(request, abort.signal, (made) => (account = made))) {
        if (event.type === 'done') done = event
        else port.post({ type: 'event', id, event, account: null })
      }
      // The last event waits for the account, which is closed behind it.
      if (done !== null) port.post({ type: 'event', id, event: done, account })
    } catch (error) {
      port.post({ type: 'failed', id, error: toWire(error), account })
    } finally {
      running.delete(id)
    }
  }

  const tellFigures = async (id: number): Promise<void> => port.post({ type: 'figures', id, text: await figures() })

  return new Promise((resolve, reject) => {
    port.listen((message) => {
      if (message.type === 'generate') void answer(message.id, message.request)
      else if (message.type === 'cancel') running.get(message.id)?.abort()
      else if (message.type === 'figures') void tellFigures(message.id)
      else engine.close().then(resolve, reject)
    })
  })
}

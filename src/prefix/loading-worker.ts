// The thread that reads prefixes for another one, which computes meanwhile.
import { parentPort, workerData } from 'node:worker_threads'
import { toWire } from '../errors/wire.ts'
import { openStore } from '../store/open.ts'
import type { FromLoading, LoadingWorkerData, ToLoading } from './loading-thread.ts'
import { PrefixRegistry } from './registry.ts'

if (parentPort === null) throw new Error('this file is the entry of a worker thread')
const port = parentPort

const { storeUrl } = workerData as LoadingWorkerData

try {
  // It has nothing else to do while it reads.
  const registry = new PrefixRegistry(await openStore(storeUrl, { blocking: true }))
  port.on('message', ({ id, prefixId }: ToLoading) => void load(registry, id, prefixId))
  post({ type: 'ready' })
} catch (error) {
  post({ type: 'unable', error: toWire(error) })
}

async function load(registry: PrefixRegistry, id: number, prefixId: string): Promise<void> {
  try {
    const prefix = await registry.load(prefixId)
    // Given away, not copied.
    post({ type: 'loaded', id, prefix }, [...new Set([prefix.keys.buffer, prefix.values.buffer])] as ArrayBuffer[])
  } catch (error) {
    post({ type: 'failed', id, error: toWire(error) })
  }
}

function post(message: FromLoading, transfer: ArrayBuffer[] = []): void {
  port.postMessage(message, transfer)
}

// A thread that should load prefixes and dies of the first that it is asked for.
import { parentPort } from 'node:worker_threads'
import type { FromLoading, ToLoading } from '../../src/prefix/loading-thread.ts'

const ready: FromLoading = { type: 'ready' }
parentPort?.on('message', ({ prefixId }: ToLoading) => {
  throw new Error(`of ${prefixId}`)
})
parentPort?.postMessage(ready, [])

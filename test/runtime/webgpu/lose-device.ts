// Loaded before a service: once a file is there, every run of onnxruntime in the engine's thread fails, as on a GPU that is gone.
import { existsSync, rmSync } from 'node:fs'
import { isMainThread } from 'node:worker_threads'
import { InferenceSession } from 'onnxruntime-node'

const flag = process.env['LOSE_DEVICE_FLAG']

/** What all sessions of onnxruntime have in common. */
const sessions = (InferenceSession as unknown as { readonly prototype: { run: (...given: unknown[]) => unknown } })
  .prototype
if (!isMainThread && flag !== undefined) {
  const { run } = sessions
  let isLost = false
  sessions.run = function (...given: unknown[]): unknown {
    if (!isLost && existsSync(flag)) {
      isLost = true
      // The next thread finds the GPU working again.
      rmSync(flag)
    }
    return isLost ? Promise.reject(new Error('Device is lost.')) : run.apply(this, given)
  }
}

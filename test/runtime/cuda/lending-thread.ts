// A thread or process that lends the weights of the golden model on the device, says so, and dies of a bug at the first message.
import { parentPort, workerData } from 'node:worker_threads'
import { openModel } from '../../../src/model/model.ts'
import { openCudaRuntime, type CudaOptions } from '../../../src/runtime/cuda/cuda.ts'
import { goldenFolder } from '../../golden/gpt2.ts'

const port = parentPort
const given: unknown = port === null ? JSON.parse(process.argv[2] ?? '') : workerData
const { lent, ...options } = given as Pick<CudaOptions, 'folder' | 'libraries'> & { readonly lent: string }
const say = (message: string): void => {
  if (port === null) process.send?.(message)
  else port.postMessage(message, [])
}
const warn = (message: string): void => say(message)
const exchange = { folder: lent, role: 'lends', warn, bytesMin: 0 } as const
const runtime = openCudaRuntime({ ...options, exchange })
const model = await openModel(`${goldenFolder}/model`)
await runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax: 1 })
const hearer = port ?? process
hearer.on('message', () => {
  throw new Error('a bug in the thread')
})
say('lent')

// The end of a thread that had the device: nothing else of this process may hold it meanwhile.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import path from 'node:path'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { Device } from '../../../src/runtime/cuda/device.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

const skip = whyNot() ?? false

test('a thread that dies gives back the memory it had on the device', { skip }, async () => {
  const { libraries, kernels } = buildStandIn()
  const entry = new URL(`./thread${path.extname(import.meta.url)}`, import.meta.url)
  const freeInThread = async (): Promise<number> => {
    const worker = new Worker(entry, { workerData: { folder: kernels, libraries: [libraries] } })
    const [free] = (await once(worker, 'message')) as [number]
    await once(worker, 'exit').catch(() => undefined)
    return free
  }
  const first = await freeInThread()
  assert.equal(await freeInThread(), first)
})

test('a device that is given back before the end of the thread has its memory back', { skip }, () => {
  const { libraries, kernels } = buildStandIn()
  const open = (): Device => Device.open({ folder: kernels, libraries: [libraries] })
  const first = open()
  const { free } = first.driver.memory()
  first.driver.allocate(2 ** 24, 'a test')
  first.driver.release()
  const second = open()
  assert.equal(second.driver.memory().free, free)
  second.driver.release()
})

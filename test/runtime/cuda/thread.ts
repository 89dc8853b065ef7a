// A thread that opens the device, takes memory, says how much is free, and dies of a bug.
import { parentPort, workerData } from 'node:worker_threads'
import { Device, type DeviceOptions } from '../../../src/runtime/cuda/device.ts'

const { driver } = Device.open(workerData as DeviceOptions)
driver.allocate(2 ** 24, 'a thread')
parentPort?.postMessage(driver.memory().free, [])
setImmediate(() => {
  throw new Error('a bug in the thread')
})

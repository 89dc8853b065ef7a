// What the memory of a GPU holds, and a GPU that is lost: who hears of it, and that an error alone is no loss.
import assert from 'node:assert/strict'
import { mock, test } from 'node:test'
import { InferenceSession } from 'onnxruntime-node'
import { findAdapters, type Adapter } from '../../../src/runtime/webgpu/adapters.ts'
import { Device, viewOf } from '../../../src/runtime/webgpu/device.ts'
import { ModelBuilder } from '../../../src/runtime/webgpu/model-builder.ts'
import { PastStore } from '../../../src/runtime/webgpu/past-store.ts'
import { WebgpuRowCache } from '../../../src/runtime/webgpu/row-cache.ts'
import { testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu
/** What all sessions of onnxruntime have in common. */
const sessions = (InferenceSession as unknown as { readonly prototype: Pick<InferenceSession, 'run'> }).prototype
const open = (onLost?: (error: Error) => void): Promise<Device> =>
  Device.open({ adapter: findAdapters().adapters[0] as Adapter, ...(onLost && { onLost }) })

test('numbers go to the device and come back, whole or their beginning in another shape', { skip }, async () => {
  const device = await open()
  const tensor = await device.upload(
    Float32Array.from({ length: 12 }, (_, i) => i),
    [3, 4],
    'a test',
  )
  assert.deepEqual([...(await device.fetch(tensor))], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11])
  assert.deepEqual([...(await device.fetch(viewOf(tensor, [2, 3])))], [0, 1, 2, 3, 4, 5])
  assert.throws(() => viewOf(tensor, [13]))
  tensor.dispose()
  const ones = await device.ones([5], 'a test')
  assert.deepEqual([...(await device.fetch(ones))], [1, 1, 1, 1, 1])
  // What an allocation that failed leaves behind, to the one who asks, is another number than was written.
  await assert.rejects(device.checkRoom(ones, 2, 'a test'), /there is no room for a test, .* on /)
  ones.dispose()
  await device.dispose()
})

test('a prefix is on the device once, whoever asks for it again, and two of one memory are two', { skip }, async () => {
  const device = await open()
  const store = new PastStore(device, { heads: 2, headDim: 3 })
  const numbers = Float32Array.from({ length: 48 }, (_, i) => i)
  const pastAt = (from: number) => ({
    keys: numbers.subarray(from, from + 12),
    values: numbers.subarray(from + 12, from + 24),
    length: 2,
  })
  const first = await store.get(pastAt(0))
  assert.equal(await store.get(pastAt(0)), first)
  assert.notEqual(await store.get(pastAt(24)), first)
  assert.equal(store.bytes, 2 * 24 * 4)
  // Keys, then values; by position, and in it by head.
  assert.deepEqual(first.dims, [2, 2, 6])
  const keys = [0, 1, 2, 6, 7, 8, 3, 4, 5, 9, 10, 11]
  assert.deepEqual([...(await device.fetch(first))], [...keys, ...keys.map((each) => each + 12)])
  store.dispose()
  assert.equal(store.bytes, 0)
  await device.dispose()
})

test('a cache that shrinks once nobody is long any more takes over what it holds', { skip }, async () => {
  const device = await open(assert.fail)
  const layout = { layers: 1, heads: 2, headDim: 3, rowsMax: 2, positionsMax: 300 }
  const store = new PastStore(device, layout)
  const cache = new WebgpuRowCache(device, store, layout)
  const past = (length: number) => {
    const numbers = Float32Array.from({ length: 12 * length }, (_, i) => 1 + i)
    return { keys: numbers.subarray(6 * length), values: numbers.subarray(0, 6 * length), length }
  }
  const held = async (): Promise<{ positions: number; numbers: number[][] }> => {
    await cache.settle(0)
    const tensors = await cache.rows(0, 1, 2)
    const [keys, values] = [await device.fetch(tensors[0]!), await device.fetch(tensors[1]!)]
    const positions = keys.length / 6
    const [ofKeys, ofValues] = [keys, values].map((each) => [...each])
    // Two positions of the last head.
    const numbers = [ofKeys!.slice(-positions).slice(0, 2), ofValues!.slice(-3 * positions).slice(0, 6)]
    return { positions, numbers }
  }
  cache.seed(0, past(2))
  cache.seed(1, past(250))
  const before = await held()
  cache.release([1])
  for (let step = 0; step < 258; step++) await cache.shrink()
  const after = await held()
  assert.ok(after.positions <= before.positions / 4, `${after.positions} of ${before.positions} positions`)
  assert.deepEqual(after.numbers, before.numbers)
  assert.deepEqual(after.numbers[1], [7, 8, 9, 10, 11, 12])
  store.dispose()
  cache.dispose()
  await device.dispose()
})

test('an error of one run is thrown as it is, while the device answers', { skip }, async () => {
  const device = await open(assert.fail)
  const m = new ModelBuilder()
  m.output('y', m.emit('Reshape', [m.input('x', 'float32', ['N']), m.integers([2, 2])]), [2, 2])
  const session = await device.open(m.encode(), 'host')
  const three = await device.upload(Float32Array.of(1, 2, 3), [3], 'a test')
  await assert.rejects(device.run(session, { x: three }), /reshape/i)
  three.dispose()
  await session.release()
  await device.dispose()
})

test('a device that answers no more is lost: whoever listens hears it once, with its name', { skip }, async () => {
  const heard: Error[] = []
  const device = await open((error) => heard.push(error))
  const tensor = await device.upload(Float32Array.of(1, 2), [2], 'a test')
  const broken = mock.method(sessions, 'run', () => Promise.reject(new Error('Device is lost.')))
  const message = /the GPU .* is lost: Device is lost\./
  await assert.rejects(device.fetch(tensor), message)
  await assert.rejects(device.fetch(tensor), message)
  broken.mock.restore()
  assert.deepEqual([...(await device.fetch(tensor))], [1, 2])
  assert.equal(heard.length, 1)
  assert.match(heard[0]!.message, message)
  tensor.dispose()
  await device.dispose()
})

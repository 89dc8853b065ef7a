// What the design takes for granted of onnxruntime-node: should a version change one of these, a decision has to be made again.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { encodeModel, type GraphProto } from '../../src/runtime/onnx/schema.ts'

const size = 700

/** y = x · x, ten times over: long enough to be noticed by a timer. */
function chainOfProducts(): GraphProto {
  const info = (name: string): GraphProto['input'][number] => ({
    name,
    type: { tensorType: { elemType: 1, shape: { dim: [{ dimValue: size }, { dimValue: size }] } } },
  })
  const names = ['x', ...Array.from({ length: 9 }, (_, i) => `h${i}`), 'y']
  const node = names.slice(1).map((name, i) => ({
    opType: 'MatMul',
    domain: '',
    input: [names[i] as string, 'x'],
    output: [name],
    attribute: [],
  }))
  return { name: 'facts', node, initializer: [], input: [info('x')], output: [info('y')] }
}

let session: InferenceSession
const zeros = (): Tensor => new Tensor('float32', new Float32Array(size * size), [size, size])
before(async () => {
  session = await InferenceSession.create(encodeModel(chainOfProducts()), { intraOpNumThreads: 1 })
})
after(() => session.release())

test('a run keeps its thread until it is done: so engine and trainer have threads and processes of their own', async () => {
  let ticks = 0
  const timer = setInterval(() => ticks++, 1)
  const pending = session.run({ x: zeros() })
  const ticksDuring = ticks
  await pending
  clearInterval(timer)
  assert.equal(ticksDuring, 0)
  assert.ok(ticks <= 1, `a timer of 1 ms fired ${ticks} times`)
})

test('outputs are fresh arrays each time: so the cache is an input only', async () => {
  const x = zeros()
  const [first, second] = [await session.run({ x }), await session.run({ x })]
  assert.notEqual(first['y']?.data, second['y']?.data)
  const y = zeros()
  assert.notEqual((await session.run({ x }, { y }))['y']?.data, y.data)
})

test('tensors over shared memory are refused: so threads exchange copies', async () => {
  const shared = new Float32Array(new SharedArrayBuffer(4 * size * size))
  await assert.rejects(async () => session.run({ x: new Tensor('float32', shared, [size, size]) }))
})

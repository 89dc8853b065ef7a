// Opening a device: what is missing is named with what to do about it, and memory that runs out says how much was needed.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import { openModel } from '../../../src/model/model.ts'
import { CudaError } from '../../../src/runtime/cuda/driver.ts'
import { openCudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { CudaUnavailable } from '../../../src/runtime/cuda/library.ts'
import { goldenFolder } from '../../golden/gpt2.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

const skip = whyNot() ?? false

const settings = ['STAND_IN_DEVICES', 'STAND_IN_DRIVER', 'STAND_IN_BYTES', 'STAND_IN_WITHOUT_GELU']
afterEach(() => {
  for (const name of settings) delete process.env[name]
})

const open = (): ReturnType<typeof openCudaRuntime> => {
  const { libraries, kernels } = buildStandIn()
  return openCudaRuntime({ folder: kernels, libraries: [libraries] })
}

const unavailable =
  (message: RegExp) =>
  (error: unknown): boolean =>
    error instanceof CudaUnavailable && message.test(error.message)

test('the device, its memory and its architecture are named', { skip }, () => {
  assert.equal(open().description, 'stand-in on the CPU, 4 GiB, compute capability 9')
})

test('a machine without a device is told so', { skip }, () => {
  process.env['STAND_IN_DEVICES'] = '0'
  assert.throws(open, unavailable(/finds no device/))
})

test('an old driver is told so, with both versions', { skip }, () => {
  process.env['STAND_IN_DRIVER'] = '11080'
  assert.throws(open, unavailable(/for CUDA 11\.8, needed is 12\.0 or later; update the driver/))
})

test('a missing library is named with the package that has it', { skip }, (t) => {
  const { libraries } = buildStandIn()
  const folder = mkdtempSync(path.join(tmpdir(), 'preamble-libraries-'))
  t.after(() => rmSync(folder, { recursive: true }))
  symlinkSync(path.join(libraries, 'libcuda.so.1'), path.join(folder, 'libcuda.so.1'))
  const without = (): unknown => openCudaRuntime({ folder, libraries: [folder] })
  // A machine of NVIDIA's has the others in the system's own places.
  try {
    without()
  } catch (error) {
    assert.ok(unavailable(/install (the CUDA toolkit|cuBLAS) 12 or 13.*CUDA_LIBRARIES.*Tried/)(error), String(error))
  }
})

test('too little memory says what needed how much, and of how much', { skip }, async () => {
  const model = await openModel(`${goldenFolder}/model`)
  process.env['STAND_IN_BYTES'] = String(200 * 2 ** 20)
  const runtime = open()
  const layout = { ...model.config, rowsMax: 50_000 }
  await assert.rejects(
    runtime.openSession(model.forwardGraph(), model.weights, layout),
    (error) =>
      error instanceof CudaError &&
      /half of the KV cache, 50000 rows × 64 positions \(lower ROWS_MAX for less\), needs 782 MiB, the device has \d+ MiB free of 200 MiB/.test(
        error.message,
      ),
  )
})

test('programs that were captured on a smaller arena go on once it has grown', { skip }, async () => {
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.tanh(g.tanh(g.input('x', ['N']))) })
  const runtime = open()
  const program = await runtime.compile(graph, { folder: '', tensors: new Map() })
  const run = async (count: number): Promise<number> => {
    const data = new Float32Array(count).fill(0.5)
    const { y } = await program.run({ x: { dtype: 'float32', shape: [count], data } })
    return y!.data[count - 1] as number
  }
  const expected = Math.fround(Math.tanh(Math.fround(Math.tanh(0.5))))
  for (const count of [10, 9_000_000, 10]) assert.ok(Math.abs((await run(count)) - expected) < 1e-6)
  await program.dispose()
})

test('where cuBLASLt has no product with gelu behind it, gelu is a step of its own', { skip }, async () => {
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.gelu(g.linear(g.input('x', [2, 3]), g.input('w', [3, 4]), g.input('b', [4]))) })
  const draw = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1))
  const feeds = {
    x: { dtype: 'float32' as const, shape: [2, 3], data: draw(6) },
    w: { dtype: 'float32' as const, shape: [3, 4], data: draw(12) },
    b: { dtype: 'float32' as const, shape: [4], data: draw(4) },
  }
  const answers: number[][] = []
  for (const without of ['', '1']) {
    process.env['STAND_IN_WITHOUT_GELU'] = without
    const program = await open().compile(graph, { folder: '', tensors: new Map() })
    answers.push([...(await program.run(feeds))['y']!.data])
    await program.dispose()
  }
  answers[0]!.forEach((value, i) => assert.ok(Math.abs(value - answers[1]![i]!) < 1e-6))
})

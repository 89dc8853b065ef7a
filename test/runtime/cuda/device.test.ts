// Opening a device: what is missing is named with what to do about it, and memory that runs out says how much was needed.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { afterEach, test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import { openModel } from '../../../src/model/model.ts'
import { cublasLtNumbers } from '../../../src/runtime/cuda/cublaslt-api.ts'
import { CudaError } from '../../../src/runtime/cuda/driver.ts'
import { openCudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { CudaUnavailable } from '../../../src/runtime/cuda/library.ts'
import { evaluate } from '../../../src/runtime/reference/reference.ts'
import { goldenFolder } from '../../golden/gpt2.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

const skip = whyNot() ?? false

const settings = ['STAND_IN_DEVICES', 'STAND_IN_DRIVER', 'STAND_IN_BYTES', 'STAND_IN_WITHOUT_EPILOGUES']
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
    assert.ok(unavailable(/install (the CUDA toolkit|cuBLAS) 12 .*CUDA_LIBRARIES.*Tried/)(error), String(error))
  }
})

test('libraries of a later CUDA than the driver is for are left alone, and a driver that takes them is named', {
  skip,
}, (t) => {
  const { libraries, kernels } = buildStandIn()
  const folder = mkdtempSync(path.join(tmpdir(), 'preamble-libraries-'))
  t.after(() => rmSync(folder, { recursive: true }))
  symlinkSync(path.join(libraries, 'libcuda.so.1'), path.join(folder, 'libcuda.so.1'))
  for (const name of ['libnvrtc.so', 'libcublasLt.so'])
    symlinkSync(path.join(libraries, `${name}.12`), path.join(folder, `${name}.13`))
  const later = (): unknown => openCudaRuntime({ folder: kernels, libraries: [folder] })
  try {
    later()
  } catch (error) {
    const named = /^install the CUDA toolkit 12 .* or a driver for CUDA 13: yours is for 12\. Tried libnvrtc\.so\.12/
    assert.ok(unavailable(named)(error), String(error))
  }
  process.env['STAND_IN_DRIVER'] = '13000'
  later()
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

test('where cuBLASLt has no product with gelu or a bias behind it, that is a step of its own', { skip }, async () => {
  const g = new GraphBuilder()
  const [x, w, b] = [g.input('x', [2, 3]), g.input('w', [3, 4]), g.input('b', [4])]
  // A part of the rows of a whole, whose numbers lie apart; with gelu, and without; and a product that has nothing behind it.
  const activated = g.gelu(g.linear(x, w, b))
  const graph = makeGraph({ y: g.concat([activated, g.linear(x, w, b), g.gelu(g.linear(x, w, null))], 1) })
  const draw = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => Math.sin(i + 1))
  const feeds = {
    x: { dtype: 'float32' as const, shape: [2, 3], data: draw(6) },
    w: { dtype: 'float32' as const, shape: [3, 4], data: draw(12) },
    b: { dtype: 'float32' as const, shape: [4], data: draw(4) },
  }
  const { CUBLASLT_EPILOGUE_BIAS: bias, CUBLASLT_EPILOGUE_GELU: gelu } = cublasLtNumbers
  const answers: number[][] = []
  for (const without of [0, gelu, bias, bias + gelu]) {
    process.env['STAND_IN_WITHOUT_EPILOGUES'] = String(without)
    const program = await open().compile(graph, { folder: '', tensors: new Map() })
    answers.push([...(await program.run(feeds))['y']!.data])
    await program.dispose()
  }
  const expected = evaluate(graph, feeds)['y']!.data
  for (const answer of answers) answer.forEach((value, i) => assert.ok(Math.abs(value - expected[i]!) < 1e-6))
})

// What the stand-in and the checks of a program catch: writes and reads beyond a buffer, memory nobody wrote, barriers missed.
import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { GraphBuilder } from '../../../src/graph/builder.ts'
import { makeGraph } from '../../../src/graph/graph.ts'
import { compiledKernels, kernelSource } from '../../../src/runtime/cuda/compiled.ts'
import { Device } from '../../../src/runtime/cuda/device.ts'
import { layOut, type Driver } from '../../../src/runtime/cuda/driver.ts'
import { Executable } from '../../../src/runtime/cuda/executable.ts'
import { lower } from '../../../src/runtime/cuda/lower.ts'
import type { Lowering } from '../../../src/runtime/cuda/lowering.ts'
import { Nvrtc } from '../../../src/runtime/cuda/nvrtc.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

// These faults would end a real device's context, so they are for the stand-in alone.
const skip = whyNot() ?? false
const folders: string[] = []
after(() => folders.forEach((folder) => rmSync(folder, { recursive: true })))

function openDevice(): Device {
  const { libraries, kernels } = buildStandIn()
  return Device.open({ folder: kernels, libraries: [libraries] })
}

/** Compiles one kernel and runs it with the address of `numbers` floats; answers them. */
function runKernel(source: string, numbers: number, threads = 32): Float32Array {
  const { driver } = openDevice()
  const code = Nvrtc.open([buildStandIn().libraries]).compile('faulty.cu', source, 90, {})
  const kernel = driver.getFunction(driver.loadModule(code), 'faulty')
  const address = driver.allocate(4 * numbers, 'a test')
  try {
    const { parameters, slots } = layOut([new Uint8Array(BigUint64Array.of(address).buffer)])
    driver.launch(kernel, [1, 1, 1], threads, parameters)
    assert.ok(slots.length > 0)
    const out = new Float32Array(numbers)
    driver.download(out, address)
    driver.synchronize()
    return out
  } finally {
    giveBack(driver, address)
  }
}

function giveBack(driver: Driver, address: bigint): void {
  try {
    driver.free(address)
  } catch {
    // What was found already is found again.
  }
}

const kernel = (body: string): string => `extern "C" __global__ void faulty(float* x) { ${body} }`

test('a kernel that writes one number behind its memory is caught', { skip }, () => {
  assert.throws(() => runKernel(kernel('x[threadIdx.x] = 1.0f;'), 31), /written behind an allocation of 124 bytes/)
})

test('a kernel that writes before its memory is caught', { skip }, () => {
  assert.throws(() => runKernel(kernel('x[(int)threadIdx.x - 1] = 1.0f;'), 32), /written before an allocation/)
})

test('memory that nobody wrote, and what lies behind the end, are not numbers', { skip }, () => {
  assert.ok(runKernel(kernel('x[threadIdx.x] = x[threadIdx.x] + 1.0f;'), 32).every(Number.isNaN))
  const sums = runKernel(kernel('if (threadIdx.x > 0) return; x[0] = 1.0f; x[1] = x[0] + x[2];'), 2)
  assert.equal(sums[0], 1)
  assert.ok(Number.isNaN(sums[1]))
})

test('a barrier that some threads of a block never reach is an error, not a hang', { skip }, () => {
  assert.throws(
    () => runKernel(kernel('if (threadIdx.x < 8) __syncthreads(); else __syncwarp(); x[threadIdx.x] = 1.0f;'), 32),
    /never by the others/,
  )
})

test('barriers and shuffles of a whole block are honoured', { skip }, () => {
  const source = kernel(`
    __shared__ float turned[64];
    float lane = (float)(threadIdx.x % 32);
    for (int step = 16; step > 0; step /= 2) lane += __shfl_xor_sync(0xffffffffu, lane, step);
    turned[63 - threadIdx.x] = lane + (float)(threadIdx.x / 32);
    __syncthreads();
    x[threadIdx.x] = turned[threadIdx.x];`)
  const out = runKernel(source, 64, 64)
  assert.deepEqual([...out], [...Array.from({ length: 32 }, () => 497), ...Array.from({ length: 32 }, () => 496)])
})

test('who opened the device hears when it is lost, and not of what it can go on after', { skip }, () => {
  const { libraries, kernels } = buildStandIn()
  const lost: string[] = []
  const { driver } = Device.open({
    folder: kernels,
    libraries: [libraries],
    onLost: (error) => lost.push(error.message),
  })
  assert.throws(() => driver.upload(1n, new Uint8Array(4)), /\(1\)/)
  assert.deepEqual(lost, [])
  const address = driver.allocate(16, 'a test')
  const code = Nvrtc.open([libraries]).compile('faulty.cu', kernel('x[4] = 1.0f;'), 90, {})
  const { parameters } = layOut([new Uint8Array(BigUint64Array.of(address).buffer)])
  driver.launch(driver.getFunction(driver.loadModule(code), 'faulty'), [1, 1, 1], 1, parameters)
  assert.throws(() => driver.synchronize(), /written behind/)
  giveBack(driver, address)
  assert.match(lost.join(), /written behind an allocation of 16 bytes/)
})

test('threads that miss a barrier say something else when the last of them goes first', { skip }, () => {
  const turned = (barrier: string): string =>
    kernel(
      `__shared__ float s[64]; s[threadIdx.x] = (float)threadIdx.x; ${barrier} x[threadIdx.x] = s[63 - threadIdx.x];`,
    )
  const both = (source: string): Float32Array[] =>
    ['', 'backwards'].map((order) => {
      process.env['STAND_IN_ORDER'] = order
      return runKernel(source, 64, 64)
    })
  const [forwards, backwards] = both(turned('__syncthreads();'))
  assert.deepEqual(forwards, backwards)
  const [missed, differently] = both(turned(''))
  delete process.env['STAND_IN_ORDER']
  assert.notDeepEqual(missed, differently)
})

test('a launch that no device has room for is refused', { skip }, () => {
  const { driver } = openDevice()
  const bounded = 'extern "C" __global__ void __launch_bounds__(64) faulty(float* x) { x[0] = 1.0f; }'
  const code = Nvrtc.open([buildStandIn().libraries]).compile('faulty.cu', bounded, 90, {})
  const faulty = driver.getFunction(driver.loadModule(code), 'faulty')
  const address = driver.allocate(4, 'a test')
  const { parameters, slots } = layOut([new Uint8Array(BigUint64Array.of(address).buffer)])
  const launch = (grid: readonly [number, number, number], threads: number): void =>
    driver.launch(faulty, grid, threads, parameters)
  launch([1, 1, 1], 64)
  for (const [grid, threads] of [
    [[1, 65_536, 1], 64],
    [[1, 1, 65_536], 64],
    [[1, 0, 1], 64],
    [[1, 1, 1], 65],
  ] as const)
    assert.throws(() => launch(grid, threads), /cuLaunchKernel: .*\(1\)/)
  assert.ok(slots.length > 0)
  driver.free(address)
})

test('what waits, or takes or moves memory, spoils the graph of a stream that is being captured', { skip }, () => {
  const { driver } = openDevice()
  const address = driver.allocate(4, 'a test')
  const forbidden: readonly (() => unknown)[] = [
    () => driver.allocate(4, 'a test'),
    () => driver.free(address),
    () => driver.upload(address, new Float32Array(1)),
    () => driver.download(new Float32Array(1), address),
    () => driver.synchronize(),
    () => driver.loadModule(new Uint8Array(64)),
  ]
  for (const call of forbidden) {
    assert.throws(() => driver.capture(() => void call()), /\(900\)/)
    const swallowed = (): void => {
      assert.throws(call)
    }
    assert.throws(() => driver.capture(swallowed), /cuStreamEndCapture: .*\(901\)/)
  }
  const graph = driver.capture(() => driver.fill(address, 0, 4))
  driver.launchGraph(graph)
  const found = new Float32Array(1).fill(1)
  driver.download(found, address)
  driver.synchronize()
  assert.equal(found[0], 0)
  driver.destroyGraph(graph)
  driver.free(address)
})

test('a source that does not compile says where', { skip }, () => {
  assert.throws(() => runKernel('#line 7 "wrong.cu"\nint f() { return nothing; }', 1), /cannot compile[^]*wrong\.cu:7/)
})

/** gelu of three numbers, with its one step changed. */
function tampered(change: (l: Lowering) => void): Executable {
  const g = new GraphBuilder()
  const graph = makeGraph({ y: g.gelu(g.input('x', [3])) })
  const weights = { address: () => assert.fail('there are none') }
  const lowered = lower(graph, { form: 'float32', bindings: new Map(), weights })
  change(lowered)
  return new Executable(openDevice(), lowered, true)
}

const feeds = { x: { dtype: 'float32' as const, shape: [3], data: Float32Array.of(1, 2, 3) } }

function withCount(l: Lowering, count: number): void {
  const step = l.steps[0]
  assert.ok(step?.kind === 'kernel')
  l.steps[0] = { ...step, arguments: [...step.arguments.slice(0, -1), { int: count }] }
}

test('a checked program finds a kernel that writes beyond one buffer into a neighbour', { skip }, () => {
  assert.throws(() => tampered((l) => withCount(l, 4)).run(feeds), /wrote \d+ bytes into the buffers of this program/)
})

test('a checked program answers no number where a kernel leaves some unwritten', { skip }, () => {
  const { y } = tampered((l) => withCount(l, 2)).run(feeds)
  assert.ok(y!.data[1]! > 1.9 && Number.isNaN(y!.data[2]))
})

test('compiled kernels are kept, and one that was damaged on disk is compiled again', { skip }, () => {
  const folder = mkdtempSync(path.join(tmpdir(), 'preamble-kernels-'))
  folders.push(folder)
  const nvrtc = Nvrtc.open([buildStandIn().libraries])
  const source = kernelSource({ headDim: 8, form: 'float32' })
  const code = compiledKernels(nvrtc, source, 90, folder)
  const file = path.join(folder, readdirSync(folder)[0] as string)
  const compile = nvrtc.compile.bind(nvrtc)
  let compiled = 0
  nvrtc.compile = (...asked) => {
    compiled += 1
    return compile(...asked)
  }
  assert.deepEqual(Buffer.from(compiledKernels(nvrtc, source, 90, folder)), Buffer.from(code))
  assert.equal(compiled, 0)
  writeFileSync(file, 'damaged')
  compiledKernels(nvrtc, source, 90, folder)
  assert.equal(compiled, 1)
})

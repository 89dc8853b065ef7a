// When webgpu is opened: where a GPU shows and has room, never for a driver in software unasked; what is lacking is said.
import assert from 'node:assert/strict'
import { tmpdir } from 'node:os'
import { test } from 'node:test'
import { ServiceError } from '../../../src/errors/errors.ts'
import { openModel } from '../../../src/model/model.ts'
import { openRuntime, type OpenedRuntime, type RuntimeOptions } from '../../../src/runtime/open.ts'
import { type Adapter, findAdapters } from '../../../src/runtime/webgpu/adapters.ts'
import { wrongResults } from '../../../src/runtime/self-check.ts'
import { isOnDevice, testWebgpu } from './runtimes.ts'

const { skip } = testWebgpu
const warnings: string[] = []

function open(choice: RuntimeOptions['choice'], more: Partial<RuntimeOptions> = {}): Promise<OpenedRuntime> {
  warnings.length = 0
  const warn = (message: string): unknown => warnings.push(message)
  const base = { onnx: { threads: 1 }, data: tmpdir(), cudaLibraries: [], warn, onLost: assert.fail }
  return openRuntime({ choice, ...base, ...more })
}

const isRefusal =
  (reason: RegExp) =>
  (error: unknown): boolean =>
    error instanceof ServiceError && error.code === 'config_invalid' && reason.test(error.message)

/** SwiftShader, shown as what it is not. */
function shown(change: Partial<Adapter>): Pick<RuntimeOptions, 'gpus'> {
  const [adapter] = findAdapters().adapters
  return { gpus: () => ({ adapters: [{ ...(adapter as Adapter), ...change }], problem: null }) }
}

test('webgpu takes the GPU that Vulkan lists, and names it with its memory', { skip }, async () => {
  const { runtime, info } = await open('webgpu')
  assert.equal(runtime.name, 'webgpu')
  assert.equal(info.name, 'webgpu')
  assert.match(info.device, isOnDevice ? /GiB/ : /^SwiftShader .*, software, \d+\.\d GiB$/)
})

test('PRECISION=fast is float32 on a GPU of this kind, and the log says so', { skip }, async () => {
  const { runtime } = await open('webgpu')
  const model = await openModel('test/golden/gpt2/model')
  assert.equal(await runtime.decodingForm(model.forwardGraph(), model.weights), 'float32')
  assert.match(warnings.join(), /PRECISION=fast: the webgpu runtime has no form of 8 or 16 bits/)
})

test('auto takes a GPU that works, where there is no NVIDIA device', { skip }, async () => {
  const { info } = await open('auto', shown({ kind: 'integrated' }))
  assert.equal(info.name, 'webgpu')
  assert.match(info.device, /integrated/)
  assert.deepEqual(warnings, [])
})

test('a driver in software is no GPU for auto, and nothing to be warned of', { skip }, async () => {
  const { info } = await open('auto', shown({ kind: 'software' }))
  assert.equal(info.name, 'onnx')
  assert.deepEqual(warnings, [])
})

test('without a GPU auto takes the CPU in silence, and webgpu is refused with what to install', async () => {
  const none: Pick<RuntimeOptions, 'gpus'> = { gpus: () => ({ adapters: [], problem: 'install a driver' }) }
  assert.equal((await open('auto', none)).info.name, 'onnx')
  assert.deepEqual(warnings, [])
  await assert.rejects(open('webgpu', none), isRefusal(/RUNTIME=webgpu cannot be had: install a driver/))
})

for (const [what, change, reason] of [
  [
    'too little memory',
    { memoryBytes: 100_000 },
    /weights take \d+ MiB and the KV cache of 4 rows \d+ MiB \(lower ROWS_MAX/,
  ],
  ['too small pieces', { pieceBytesMax: 5_000 }, /takes 1 MiB in one piece, .* has at most 1 MiB/],
] as const) {
  test(`with ${what} auto takes the CPU and says why, and webgpu is refused with the same reason`, {
    skip,
  }, async () => {
    const model = await openModel('test/golden/gpt2/model')
    const room = { weights: model.weights, layout: { ...model.config, rowsMax: 4 } }
    const gpus = shown({ kind: 'discrete', ...change })
    assert.equal((await open('auto', { room, ...gpus })).info.name, 'onnx')
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] as string, reason)
    await assert.rejects(open('webgpu', { room, ...gpus }), isRefusal(reason))
  })
}

test('a GPU that computes something else is not trusted', { skip }, async () => {
  const runtime = await testWebgpu.open()
  assert.equal(await wrongResults(runtime), null)
  const compile: typeof runtime.compile = async (...asked) => {
    const program = await runtime.compile(...asked)
    return {
      run: async (feeds) => {
        const outputs = await program.run(feeds)
        outputs['losses']!.data[3]! += 0.01
        return outputs
      },
      dispose: () => program.dispose(),
    }
  }
  assert.match(
    (await wrongResults({ ...runtime, compile })) as string,
    /losses of a small training step in float32 is off by/,
  )
})

// Which runtime is opened: the GPU where it works, the CPU with a reason where it does not, an error where it was insisted on.
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, afterEach, test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { wrongResults } from '../../src/runtime/self-check.ts'
import { openRuntime, type OpenedRuntime, type RuntimeOptions } from '../../src/runtime/open.ts'
import { buildStandIn, whyNot } from './cuda/stand-in/build.ts'
import { shareKernels } from './shared-kernels.ts'

const skip = whyNot() ?? false
const data = mkdtempSync(path.join(tmpdir(), 'preamble-open-'))
if (skip === false) shareKernels(data)
after(() => rmSync(data, { recursive: true }))
afterEach(() => {
  delete process.env['STAND_IN_DEVICES']
  delete process.env['STAND_IN_BYTES']
})

const warnings: string[] = []
function open(
  choice: RuntimeOptions['choice'],
  cudaLibraries: readonly string[],
  room?: RuntimeOptions['room'],
): Promise<OpenedRuntime> {
  warnings.length = 0
  const warn = (message: string): unknown => warnings.push(message)
  const device = { data, cudaLibraries, ...(room && { room }) }
  return openRuntime({ choice, onnx: { threads: 1 }, ...device, warn, onLost: assert.fail })
}
const standIn = (): string[] => [buildStandIn().libraries]

test('auto takes a device that is there and computes what it should', { skip }, async () => {
  const { runtime, info } = await open('auto', standIn())
  assert.equal(runtime.name, 'cuda')
  const device = 'stand-in on the CPU, 4 GiB, compute capability 9'
  assert.deepEqual(info, { name: 'cuda', device })
  assert.deepEqual(warnings, [])
})

test('onnx is the CPU, whatever else there is', async () => {
  const { runtime, info } = await open('onnx', skip === false ? standIn() : [])
  assert.equal(runtime.name, 'onnx')
  assert.deepEqual(info, { name: 'onnx', device: 'cpu, 1 threads' })
})

for (const [what, setting, value, reason] of [
  ['without a device', 'STAND_IN_DEVICES', '0', /finds no device/],
  ['with too little memory', 'STAND_IN_BYTES', '1000000', /the workspace of products needs 32 MiB/],
] as const) {
  test(`${what} auto takes the CPU and says why, and cuda is refused with the same reason`, { skip }, async () => {
    process.env[setting] = value
    assert.equal((await open('auto', standIn())).info.name, 'onnx')
    assert.equal(warnings.length, 1)
    assert.match(warnings[0] as string, reason)
    const isRefusal = (error: unknown): boolean =>
      error instanceof ServiceError && error.code === 'config_invalid' && reason.test(error.message)
    await assert.rejects(open('cuda', standIn()), isRefusal)
  })
}

test('where weights and cache are more than the device has free, auto takes the CPU and says what to lower', {
  skip,
}, async () => {
  process.env['STAND_IN_BYTES'] = String(3072 * 2 ** 20)
  const tensor = { name: 'w', dtype: 'float32', shape: [1024, 1024], file: '', offset: 0, bytes: 4 * 2 ** 20 } as const
  const weights = { folder: '', tensors: new Map([['w', tensor]]) }
  const layout = { layers: 2, heads: 4, headDim: 64, positionsMax: 1024, rowsMax: 32 }
  // Keys and values of 2 layers × 32 rows × 1024 positions × 256 numbers, of 4 bytes: 128 MiB.
  assert.equal((await open('auto', standIn(), { weights, layout })).info.name, 'cuda')
  const more = { weights, layout: { ...layout, rowsMax: 800 } }
  const reason =
    /the weights take 4 MiB and the KV cache of 800 rows 3200 MiB \(lower ROWS_MAX for less\), the device has \d+ MiB free of 3072 MiB/
  assert.equal((await open('auto', standIn(), more)).info.name, 'onnx')
  assert.match(warnings.join(), reason)
  await assert.rejects(open('cuda', standIn(), more), reason)
  assert.equal((await open('cuda', standIn(), { ...more, numberBytes: 2 })).info.name, 'cuda')
})

test('a device that computes something else is not trusted', { skip }, async () => {
  const { runtime } = await open('cuda', standIn())
  assert.equal(await wrongResults(runtime), null)
  const offBy = (error: number, form: string): typeof runtime => ({
    ...runtime,
    compile: async (graph, weights, asked) => {
      const program = await runtime.compile(graph, weights, asked)
      const run: typeof program.run = async (feeds) => {
        const outputs = await program.run(feeds)
        if (asked === form) outputs['losses']!.data[3]! += error
        return outputs
      }
      return { run, dispose: () => program.dispose() }
    },
  })
  for (const [error, form] of [
    [0.01, 'float32'],
    [1, 'bfloat16'],
    [0.2, 'float16'],
  ] as const) {
    const expected = `losses of a small training step in ${form} is off by`
    assert.ok((await wrongResults(offBy(error, form)))?.startsWith(expected), form)
  }
  const { training } = runtime
  assert.ok(training !== undefined)
  const hold: typeof training.hold = (state, options) => training.hold(state, { ...options, beta1: 0.8 })
  const wrong = await wrongResults({ ...runtime, training: { ...training, hold } })
  assert.match(wrong as string, /a first moment of a small optimizer step is off by/)
  const choose = (_: unknown, choices: readonly unknown[]) => choices.map(() => ({ token: 0, logprob: 0 }))
  assert.match((await wrongResults({ ...runtime, choose })) as string, /the token chosen by .* is 0, not/)
})

// Which graphs run by our own machine code and which by onnxruntime, and that whole steps are the same bits whoever is beside them.
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import type { Graph } from '../../src/graph/graph.ts'
import type { Model } from '../../src/model/model.ts'
import { flagsOf, processorFlags, wordsProblem } from '../../src/runtime/avx2/available.ts'
import { OnnxProgram } from '../../src/runtime/onnx/program.ts'
import { createOnnxRuntime, type OnnxOptions } from '../../src/runtime/onnx/onnx.ts'
import { OwnCode, slowerReason } from '../../src/runtime/onnx/own-code.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds, Program } from '../../src/runtime/runtime.ts'
import { StagedProgram } from '../../src/runtime/staged-program.ts'
import { int32, type TensorData } from '../../src/tensor/tensor.ts'
import { sourceFeeds } from '../../src/train/feeds.ts'
import { encoderGraph, foldGraph } from '../../src/train/graphs.ts'
import { prefixShape } from '../../src/train/parameters.ts'
import { bartExamples } from '../golden/bart.ts'
import { assertClose } from '../golden/gpt2.ts'
import { bart, evaluationCase, gpt2, otherBart, seed, trainingCase } from '../graph/training-graphs.ts'
import { referenceWeights } from '../train/golden-runs.ts'
import { assertSame } from './avx2/run-graph.ts'

const tolerance = 1e-5
/** What is tried here wants no more threads than libuv has unless it is told. */
const pool = 4
const problem = await wordsProblem()
const reason = problem ?? slowerReason({ flags: processorFlags(), poolThreads: pool }, 1)
const skip = reason ?? (process.env['UV_THREADPOOL_SIZE'] ? 'libuv has been told how many threads to have' : false)

const opened: Program[] = []
afterEach(async () => {
  await Promise.all(opened.splice(0).map((program) => program.dispose()))
})

async function compile(graph: Graph, { weights }: Model, options: Partial<OnnxOptions> = {}): Promise<Program> {
  const program = await createOnnxRuntime({ threads: 1, ...options }).compile(graph, weights)
  opened.push(program)
  return program
}

test('processors with wider vectors, and runs that want more threads than there are, are left to onnxruntime', () => {
  const plain = flagsOf('processor\t: 0\nflags\t\t: fpu avx avx2 fma\nbugs\t\t: avx512f\n')
  const wide = flagsOf('flags\t\t: fpu avx2 fma avx512f avx512bw\n')
  assert.deepEqual([...plain], ['fpu', 'avx', 'avx2', 'fma'])
  assert.equal(flagsOf('').size, 0)
  assert.equal(slowerReason({ flags: plain, poolThreads: 4 }, 4), null)
  assert.match(slowerReason({ flags: wide, poolThreads: 4 }, 1) as string, /twice as wide/)
  assert.match(slowerReason({ flags: plain, poolThreads: 4 }, 5) as string, /4 threads, and 5/)
})

test('a runtime asked for more threads than libuv has goes by onnxruntime, and so does one told to', {
  skip,
}, async () => {
  const { graph } = trainingCase(gpt2, [{}])
  assert.ok((await compile(graph, gpt2, { threads: pool })) instanceof StagedProgram)
  assert.ok((await compile(graph, gpt2, { threads: pool + 1 })) instanceof OnnxProgram)
  assert.ok((await compile(graph, gpt2, { ownCode: false })) instanceof OnnxProgram)
})

test('a graph without a model, as the fold from parameters to keys and values, is for onnxruntime', async () => {
  assert.ok((await compile(foldGraph(gpt2, prefixShape(gpt2.config, 4, 6)), gpt2)) instanceof OnnxProgram)
})

test('programs over the same weights share what was packed of them, and others do not', () => {
  const own = new OwnCode(1)
  assert.equal(own.loaded(gpt2.weights), own.loaded(gpt2.weights))
  assert.notEqual(own.loaded(gpt2.weights), own.loaded(bart.weights))
})

/** Sources of the encoder, with no prefix. */
const encoderCase = {
  graph: encoderGraph(bart),
  feeds: { ...sourceFeeds(bartExamples), noLengths: int32(Int32Array.of(0), [1]) },
}

type Answer = Readonly<Record<string, TensorData>>

async function answerOf(program: Program, feeds: Feeds): Promise<Answer> {
  const outputs = await program.run(feeds)
  return Object.fromEntries(Object.entries(outputs).map(([name, { data }]) => [name, data]))
}

function assertSameAnswer(what: string, got: Answer, expected: Answer): void {
  assert.deepEqual(Object.keys(got), Object.keys(expected))
  for (const [name, values] of Object.entries(expected)) assertSame(`${what}, ${name}`, got[name], values)
}

for (const [what, model, { graph, feeds }] of [
  ['GPT-2, keys and values', gpt2, trainingCase(gpt2, [{}])],
  ['GPT-2, a network with dropout and smoothing', gpt2, trainingCase(gpt2, [{ network: 6, dropout: true }], 0.1)],
  ['GPT-2, an infix', gpt2, trainingCase(gpt2, [{ variant: 'infix' }])],
  ['GPT-2, embeddings beside keys and values', gpt2, trainingCase(gpt2, [{ variant: 'embedding' }, {}])],
  ['GPT-2, three members', gpt2, trainingCase(gpt2, [{}, { network: 6, prefixLength: 3 }, { dropout: true }])],
  ['GPT-2, an evaluation', gpt2, evaluationCase(gpt2, {})],
  ['BART, all places', bart, trainingCase(bart, [{}], 0.1)],
  ['BART, cross-attention alone', bart, trainingCase(bart, [{ places: ['cross'] }])],
  [
    'BART over sources that were read',
    bart,
    trainingCase(bart, [{ places: ['cross', 'decoder_self'], encoded: true }]),
  ],
  ['BART, networks', bart, trainingCase(bart, [{ network: 6 }])],
  ['BART, members at different places', bart, trainingCase(bart, [{ places: ['encoder_self'] }, { network: 6 }])],
  ['BART, an evaluation', bart, evaluationCase(bart, {})],
  ['BART, its encoder alone', bart, encoderCase],
  ['a BART with scaled embeddings', otherBart, trainingCase(otherBart, [{}])],
] as const) {
  test(`${what}: our code has a whole step, near the reference, and the same bits with 1, 2 and 3 threads and again`, {
    skip,
  }, async () => {
    const one = await compile(graph, model)
    assert.ok(one instanceof StagedProgram)
    const got = await answerOf(one, feeds)
    for (const [name, { data }] of Object.entries(evaluate(graph, feeds, await referenceWeights(model.weights))))
      assertClose(`${name}, SEED=${seed}`, got[name] ?? [], data, tolerance)
    assertSameAnswer('again', await answerOf(one, feeds), got)
    for (const threads of [2, 3]) {
      const several = await compile(graph, model, { threads })
      for (const round of [1, 2]) {
        assertSameAnswer(`${threads} threads, run ${round}`, await answerOf(several, feeds), got)
      }
    }
  })
}

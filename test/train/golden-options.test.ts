// The options of a training against PyTorch: smoothing, accumulation, schedules, embeddings and infix.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { AdamW, adamWDefaults, untrained } from '../../src/train/adamw.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import { batchFeeds, parameterFeeds } from '../../src/train/feeds.ts'
import { GradientSteps } from '../../src/train/gradients.ts'
import { evaluationGraph, foldGraph, gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { trainingDefaults } from '../../src/train/options.ts'
import { prefixShape, type Parameters } from '../../src/train/parameters.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { assertClose, golden, toTensor, type GoldenTensor } from '../golden/gpt2.ts'
import { goldenRuntimes, model } from './golden-runs.ts'

const { options, prefixLength, batch } = golden
const shapeOf = (variant: 'prefix' | 'embedding' | 'infix') => prefixShape(model.config, prefixLength, 0, variant)
const prefix = { keys: toTensor(golden.prefix['keys']!), values: toTensor(golden.prefix['values']!) }

/** The golden rows as examples: the last tokens of each are targets. */
const examples: readonly EncodedExample[] = batch.lengths.map((length, b) => {
  const width = batch.tokens.shape[1] as number
  const promptLength = batch.promptLengths[b] as number
  const all = batch.tokens.data.slice(b * width, b * width + length)
  return { tokens: all.slice(0, -1), targets: all.slice(promptLength), promptLength }
})

function assertGradients(
  outputs: Readonly<Record<string, Tensor>>,
  expected: Readonly<Record<string, GoldenTensor>>,
  tolerance: number,
): void {
  for (const [parameter, { data }] of Object.entries(expected)) {
    assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, data, tolerance)
  }
}

for (const { name, skip, tolerance, run, feeds } of goldenRuntimes) {
  test(`${name}: smoothed losses and their prefix gradients agree with PyTorch, and held-out losses stay plain`, {
    skip,
  }, async () => {
    const graph = trainingGraph(model, shapeOf('prefix'), { smoothing: options.smoothing })
    const outputs = await run(graph, { ...feeds('sum'), ...prefix })
    const { tokenLosses, gradients } = options.expected.smoothing
    assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
    assertGradients(outputs, gradients, tolerance)
    const plain = await run(evaluationGraph(model, shapeOf('prefix')), { ...feeds('sum'), ...prefix })
    assertClose('plain losses', plain['tokenLosses']!.data, golden.expected.tokenLosses.data, tolerance)
  })

  test(`${name}: trained embeddings fold to the keys and values that PyTorch's model makes of them, with its gradient`, {
    skip,
  }, async () => {
    const { keys, values, loss, gradients } = options.expected.embedding
    const inputs = Float32Array.from(options.inputs.data)
    const parameters = parameterFeeds(new Map([['inputs', inputs]]), shapeOf('embedding'))
    const folded = await run(foldGraph(model, shapeOf('embedding')), parameters)
    assertClose('keys', folded['folded.keys']!.data, keys.data, tolerance)
    assertClose('values', folded['folded.values']!.data, values.data, tolerance)
    const outputs = await run(trainingGraph(model, shapeOf('embedding')), { ...feeds('sum'), ...parameters })
    const sum = Array.from(outputs['tokenLosses']!.data).reduce((a, b) => a + b, 0)
    assertClose('loss', [sum / batch.lengths.length], [loss], tolerance)
    assertGradients(outputs, gradients, tolerance)
  })

  test(`${name}: an infix is seen from the last token of the prompt on, with PyTorch's losses and gradients`, {
    skip,
  }, async () => {
    const outputs = await run(trainingGraph(model, shapeOf('infix')), { ...feeds('sum'), ...infixFeeds(), ...prefix })
    const { tokenLosses, gradients } = options.expected.infix
    assertClose('token losses', outputs['tokenLosses']!.data, tokenLosses.data, tolerance)
    assertGradients(outputs, gradients, tolerance)
    // Our own feeds leave out the last token of each row, which is a target alone.
    const own = { ...batchFeeds(examples, shapeOf('infix'), 1), ...prefix }
    const measured = await run(evaluationGraph(model, shapeOf('infix')), own)
    assertClose('held-out losses', measured['tokenLosses']!.data, tokenLosses.data, tolerance)
  })
}

function infixFeeds(): Record<string, Tensor> {
  const int = ({ shape, data }: GoldenTensor): Tensor => ({ dtype: 'int32', shape, data: Int32Array.from(data) })
  return { positions: int(options.infix.positions), pastLengths: int(options.infix.pastLengths) }
}

for (const schedule of ['linear', 'cosine', 'constant'] as const) {
  test(`the ${schedule} schedule with a warm-up has the rates that transformers gives`, () => {
    const { steps, learningRate } = golden.optimizer
    const plan = { steps, learningRate, warmupSteps: options.warmupSteps, schedule }
    const rates = Array.from({ length: steps }, (_, step) => learningRateAt(plan, step))
    assertClose('rates', rates, options.rates[schedule], 1e-15)
    assert.equal(learningRateAt({ ...plan, warmupSteps: 0 }, 0), learningRate)
  })
}

test('ten steps of two batches each, with cosine, weight decay and clipping, end where PyTorch ends', async () => {
  const { steps, learningRate } = golden.optimizer
  const { warmupSteps, weightDecay, clipNorm, expected } = options
  const plan = {
    ...trainingDefaults,
    initialization: 'random',
    steps,
    learningRate,
    warmupSteps,
    schedule: 'cosine' as const,
    weightDecay,
    clipNorm,
    prefixLength,
    reparametrization: 0,
    lossReduction: 'mean' as const,
    evaluateEvery: 1,
  }
  const shared = new SharedSteps(createOnnxRuntime({ threads: 1 }), model)
  const program = new GradientSteps(shared, shapeOf('prefix'), plan)
  const parameters: Parameters = new Map(
    Object.entries(golden.prefix).map(([name, { data }]) => [name, Float32Array.from(data)]),
  )
  const optimizer = new AdamW(untrained(parameters), { ...adamWDefaults, weightDecay, clipNorm })
  const batches = options.accumulated.map((rows) => rows.map((row) => examples[row] as EncodedExample))
  const losses: number[] = []
  const norms: number[] = []
  for (let step = 0; step < steps; step++) {
    const { loss, gradients } = await program.of(batches, parameters, step)
    losses.push(loss)
    norms.push(optimizer.update(gradients, step + 1, learningRateAt(plan, step)))
  }
  program.leave()
  assertClose('losses', losses, expected.accumulated.losses, 1e-5)
  assertClose('norms', norms, expected.accumulated.norms, 1e-5)
  // Adam divides by the root of tiny second moments: PyTorch's own float32 is off by 7e-7 here.
  for (const [name, { data }] of Object.entries(expected.accumulated.final)) {
    assertClose(name, parameters.get(name) as Float32Array, data, 1e-5)
  }
})

// The options of a training against PyTorch: smoothing, accumulation, schedules, embeddings and infix.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { AdamW, adamWDefaults, untrained } from '../../src/train/adamw.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import { GradientSteps } from '../../src/train/gradients.ts'
import { trainingDefaults } from '../../src/train/options.ts'
import { prefixShape, type Parameters } from '../../src/train/parameters.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { SharedSteps } from '../../src/train/shared-steps.ts'
import { assertClose, golden } from '../golden/gpt2.ts'
import { optionExamples, testGoldenOptions } from './golden-options-contract.ts'
import { goldenRuns, model, runsHere } from './golden-runs.ts'

const { options, prefixLength } = golden

for (const run of goldenRuns(runsHere)) testGoldenOptions(run)

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
  const program = new GradientSteps(shared, prefixShape(model.config, prefixLength, 0), plan)
  const parameters: Parameters = new Map(
    Object.entries(golden.prefix).map(([name, { data }]) => [name, Float32Array.from(data)]),
  )
  const optimizer = new AdamW(untrained(parameters), { ...adamWDefaults, weightDecay, clipNorm })
  const batches = options.accumulated.map((rows) => rows.map((row) => optionExamples[row] as EncodedExample))
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

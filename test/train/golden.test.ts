// The whole model against PyTorch: losses and every gradient by name, and ten steps of a training.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { AdamW, untrained } from '../../src/train/adamw.ts'
import { gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { parameterShapes, prefixShape, type Parameters, type PrefixShape } from '../../src/train/parameters.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { assertClose, golden, goldenFeeds } from '../golden/gpt2.ts'
import { testGolden } from './golden-contract.ts'
import { goldenRuns, model, runsHere } from './golden-runs.ts'

const direct = prefixShape(model.config, golden.prefixLength, 0)
const network = prefixShape(model.config, golden.prefixLength, golden.middle)

for (const run of goldenRuns(runsHere)) testGolden(run)

test('ten steps of AdamW on the direct prefix give the losses, norms and keys that PyTorch gets', async () => {
  const { losses, norms, parameters } = await train(direct, golden.prefix)
  assertClose('losses', losses, golden.expected.training.losses, 1e-5)
  assertClose('norms', norms, golden.expected.training.norms, 1e-5)
  // Adam divides by the root of tiny second moments: PyTorch's own float32 is off by 6e-7 here.
  for (const [name, expected] of Object.entries(golden.expected.training.final)) {
    assertClose(name, parameters.get(name) as Float32Array, expected.data, 1e-5)
  }
})

test('ten steps of AdamW on the reparametrized prefix give the losses and norms that PyTorch gets', async () => {
  const { losses, norms } = await train(network, golden.network)
  assertClose('losses', losses, golden.expected.reparametrized.training.losses, 1e-5)
  assertClose('norms', norms, golden.expected.reparametrized.training.norms, 1e-5)
})

async function train(
  shape: PrefixShape,
  start: Readonly<Record<string, { readonly data: readonly number[] }>>,
): Promise<{ losses: number[]; norms: number[]; parameters: Parameters }> {
  const program = await createOnnxRuntime({ threads: 1 }).compile(trainingGraph(model, shape), model.weights)
  const shapes = parameterShapes(shape)
  const parameters: Parameters = new Map([...shapes.keys()].map((name) => [name, Float32Array.from(start[name]!.data)]))
  const optimizer = new AdamW(untrained(parameters))
  const losses: number[] = []
  const norms: number[] = []
  for (let step = 0; step < golden.optimizer.steps; step++) {
    const tensors = Object.fromEntries(
      [...parameters].map(([name, data]) => [name, { dtype: 'float32' as const, shape: shapes.get(name)!, data }]),
    )
    const outputs = await program.run({ ...goldenFeeds('mean'), ...tensors })
    const tokenLosses = outputs['tokenLosses']!.data as Float32Array
    losses.push(tokenLosses.reduce((a, b) => a + b, 0) / tokenLosses.length)
    const gradients = new Map(
      [...parameters.keys()].map((name) => [name, outputs[gradientOf(name)]!.data as Float32Array]),
    )
    norms.push(
      optimizer.update(
        gradients,
        step + 1,
        learningRateAt({ ...golden.optimizer, warmupSteps: 0, schedule: 'linear' }, step),
      ),
    )
  }
  await program.dispose()
  assert.equal(losses.length, golden.expected.training.losses.length)
  return { losses, norms, parameters }
}

// BART against PyTorch: graphs on every runtime here, and ten steps of a training.
import { test } from 'node:test'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { AdamW, untrained } from '../../src/train/adamw.ts'
import { parameterFeeds } from '../../src/train/feeds.ts'
import { gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { parameterShapes, type Parameters, type PrefixShape } from '../../src/train/parameters.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { bartGolden as golden } from '../golden/bart.ts'
import { assertClose } from '../golden/gpt2.ts'
import { bart, direct, feedsOf, network, testBart } from './bart-golden-contract.ts'
import { runsHere } from './golden-runs.ts'

testBart(runsHere)

test('ten steps of AdamW on all three prefixes give the losses, norms and keys that PyTorch gets', async () => {
  const { losses, norms, parameters } = await train(direct, golden.prefix)
  assertClose('losses', losses, golden.expected.training.losses, 1e-5)
  assertClose('norms', norms, golden.expected.training.norms, 1e-5)
  // PyTorch's own float32 is off by 8e-6 here.
  for (const [name, expected] of Object.entries(golden.expected.training.final)) {
    assertClose(name, parameters.get(name) as Float32Array, expected.data, 5e-5)
  }
})

test('ten steps of AdamW on the three networks give the losses and norms that PyTorch gets', async () => {
  const { losses, norms } = await train(network, golden.network)
  assertClose('losses', losses, golden.expected.reparametrized.training.losses, 1e-5)
  // PyTorch's own float32 is off by 1e-4 here.
  assertClose('norms', norms, golden.expected.reparametrized.training.norms, 5e-4)
})

async function train(
  shape: PrefixShape,
  start: Readonly<Record<string, { readonly data: readonly number[] }>>,
): Promise<{ losses: number[]; norms: number[]; parameters: Parameters }> {
  const program = await createOnnxRuntime({ threads: 1 }).compile(trainingGraph(bart, shape), bart.weights)
  const names = [...parameterShapes(shape).keys()]
  const parameters: Parameters = new Map(names.map((name) => [name, Float32Array.from(start[name]!.data)]))
  const optimizer = new AdamW(untrained(parameters))
  const [losses, norms]: [number[], number[]] = [[], []]
  for (let step = 0; step < golden.optimizer.steps; step++) {
    const outputs = await program.run({ ...feedsOf(shape, 'onnx', 'mean'), ...parameterFeeds(parameters, shape) })
    const tokenLosses = outputs['tokenLosses']!.data as Float32Array
    losses.push(tokenLosses.reduce((a, b) => a + b, 0) / tokenLosses.length)
    const gradients = new Map(names.map((each) => [each, outputs[gradientOf(each)]!.data as Float32Array]))
    const rate = learningRateAt({ ...golden.optimizer, warmupSteps: 0, schedule: 'linear' }, step)
    norms.push(optimizer.update(gradients, step + 1, rate))
  }
  await program.dispose()
  return { losses, norms, parameters }
}

// The whole model against PyTorch: logits, losses and every gradient by name, on both runtimes.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { openModel, type Model } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'
import type { Graph } from '../../src/graph/graph.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { readSafetensors, toFloat32 } from '../../src/tensor/safetensors.ts'
import { AdamW } from '../../src/train/adamw.ts'
import { foldGraph, gradientOf, trainingGraph } from '../../src/train/graphs.ts'
import { parameterShapes, prefixShape, type Parameters, type PrefixShape } from '../../src/train/parameters.ts'
import { learningRateAt } from '../../src/train/schedule.ts'
import { assertClose, golden, goldenFeeds, goldenFolder, toTensor } from '../golden/gpt2.ts'

type Run = (graph: Graph, feeds: Feeds) => Promise<Record<string, Tensor>>

/** Of the largest value; PyTorch's own float32 is off by up to 6e-7 on the same figures. */
const tolerances = { onnx: 1e-5, reference: 1e-12 } as const

const model = await openModel(`${goldenFolder}/model`)
const direct = prefixShape(model.config, golden.prefixLength, 0)
const network = prefixShape(model.config, golden.prefixLength, golden.middle)

const runs: Record<keyof typeof tolerances, Run> = {
  onnx: async (graph, feeds) => {
    const program = await createOnnxRuntime({ threads: 1 }).compile(graph, model.weights)
    const outputs = await program.run(feeds)
    await program.dispose()
    return outputs
  },
  reference: async (graph, feeds) => evaluate(graph, feeds, await referenceWeights(model)),
}

for (const [name, run] of Object.entries(runs) as [keyof typeof tolerances, Run][]) {
  const tolerance = tolerances[name]

  for (const reduction of ['sum', 'mean'] as const) {
    test(`${name}: losses and prefix gradients of the ${reduction} agree with PyTorch`, async () => {
      const feeds: Feeds = {
        ...goldenFeeds(reduction),
        keys: toTensor(golden.prefix['keys']!),
        values: toTensor(golden.prefix['values']!),
      }
      // A weight of 1/3 is no float32 number: the reference gets it in float64, as PyTorch had it.
      const exact = name === 'reference' ? { ...feeds, lossWeights: inFloat64(feeds['lossWeights'] as Tensor) } : feeds
      const outputs = await run(trainingGraph(model, direct), exact)
      assertClose('token losses', outputs['tokenLosses']!.data, golden.expected.tokenLosses.data, tolerance)
      for (const [parameter, expected] of Object.entries(golden.expected.gradients[reduction])) {
        assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
      }
    })
  }

  test(`${name}: the reparametrized prefix and the gradients of its five parameters agree with PyTorch`, async () => {
    const parameters = Object.fromEntries(Object.entries(golden.network).map(([key, value]) => [key, toTensor(value)]))
    const folded = await run(foldGraph(model, network), parameters)
    assertClose('keys', folded['folded.keys']!.data, golden.expected.reparametrized.keys.data, tolerance)
    assertClose('values', folded['folded.values']!.data, golden.expected.reparametrized.values.data, tolerance)
    const feeds = goldenFeeds('sum')
    const exact = name === 'reference' ? { ...feeds, lossWeights: inFloat64(feeds['lossWeights'] as Tensor) } : feeds
    const outputs = await run(trainingGraph(model, network), { ...exact, ...parameters })
    for (const [parameter, expected] of Object.entries(golden.expected.reparametrized.gradients)) {
      assertClose(`gradient of ${parameter}`, outputs[gradientOf(parameter)]!.data, expected.data, tolerance)
    }
  })
}

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
  const optimizer = new AdamW(parameters)
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

function inFloat64(tensor: Tensor): Tensor {
  const exact = 1 / Math.round(1 / (tensor.data[0] as number))
  return { ...tensor, data: new Float64Array(tensor.data.length).fill(exact) }
}

async function referenceWeights({ weights }: Model): Promise<Map<string, Float64Array>> {
  const { tensors } = readSafetensors(await readFile(path.join(weights.folder, 'model.safetensors')))
  return new Map(
    [...tensors].map(([name, { bytes }]) => [
      name.replace(/^transformer\./, ''),
      Float64Array.from(toFloat32('F32', bytes)),
    ]),
  )
}

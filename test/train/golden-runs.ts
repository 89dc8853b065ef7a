// The golden model with the runtimes that are held against PyTorch, and how close each must come.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Graph } from '../../src/graph/graph.ts'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds, Runtime } from '../../src/runtime/runtime.ts'
import { readSafetensors, toFloat32 } from '../../src/tensor/safetensors.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import { goldenFeeds, goldenFolder } from '../golden/gpt2.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'

type Run = (graph: Graph, feeds: Feeds) => Promise<Record<string, Tensor>>

interface GoldenRuntime {
  readonly name: string
  readonly skip: false | string
  /** Of the largest value; PyTorch's own float32 is off by up to 1e-6 on the same figures. */
  readonly tolerance: number
  readonly run: Run
  /** The golden batch with its loss weights as exact as the runtime takes them. */
  readonly feeds: (reduction: 'sum' | 'mean') => Feeds
}

export const model = await openModel(`${goldenFolder}/model`)

let cuda: Runtime | null = null

export const goldenRuntimes: readonly GoldenRuntime[] = [
  {
    name: 'onnx',
    skip: false,
    tolerance: 1e-5,
    run: async (graph, feeds) => {
      const program = await createOnnxRuntime({ threads: 1 }).compile(graph, model.weights)
      const outputs = await program.run(feeds)
      await program.dispose()
      return outputs
    },
    feeds: goldenFeeds,
  },
  {
    name: 'cuda',
    skip: testCuda.skip,
    tolerance: 1e-5,
    run: async (graph, feeds) => {
      cuda ??= testCuda.open()
      const program = await cuda.compile(graph, model.weights)
      const outputs = await program.run(feeds)
      await program.dispose()
      return outputs
    },
    feeds: goldenFeeds,
  },
  {
    name: 'reference',
    skip: false,
    tolerance: 1e-12,
    run: async (graph, feeds) => evaluate(graph, feeds, await referenceWeights()),
    feeds: (reduction) => {
      const feeds = goldenFeeds(reduction)
      return { ...feeds, lossWeights: inFloat64(feeds['lossWeights'] as Tensor) }
    },
  },
]

/** A weight of 1/3 is no float32 number: the reference gets it in float64, as PyTorch had it. */
function inFloat64(tensor: Tensor): Tensor {
  const exact = 1 / Math.round(1 / (tensor.data[0] as number))
  return { ...tensor, data: new Float64Array(tensor.data.length).fill(exact) }
}

async function referenceWeights(): Promise<Map<string, Float64Array>> {
  const { tensors } = readSafetensors(await readFile(path.join(model.weights.folder, 'model.safetensors')))
  return new Map(
    [...tensors].map(([name, { bytes }]) => [
      name.replace(/^transformer\./, ''),
      Float64Array.from(toFloat32('F32', bytes)),
    ]),
  )
}

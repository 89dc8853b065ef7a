// The golden model with the runtimes that are held against PyTorch, and how close each must come.
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import type { Graph } from '../../src/graph/graph.ts'
import { openModel, type Model } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { evaluate } from '../../src/runtime/reference/reference.ts'
import type { Feeds, Runtime } from '../../src/runtime/runtime.ts'
import { toFloat32 } from '../../src/tensor/safetensors.ts'
import type { Tensor } from '../../src/tensor/tensor.ts'
import type { Weights } from '../../src/tensor/weights.ts'
import { goldenFeeds, goldenFolder } from '../golden/gpt2.ts'
import { testCuda } from '../runtime/cuda/runtimes.ts'
import { testWebgpu } from '../runtime/webgpu/runtimes.ts'

type Run = (graph: Graph, feeds: Feeds) => Promise<Record<string, Tensor>>

export interface GoldenRun {
  readonly name: RunName
  readonly skip: false | string
  /** Of the largest value; PyTorch's own float32 is off by up to 1e-6 on the same figures. */
  readonly tolerance: number
  readonly run: Run
}

let cuda: Runtime | null = null
let webgpu: Promise<Runtime> | null = null

export type RunName = 'onnx' | 'cuda' | 'webgpu' | 'reference'

/** Those that a test file has beside what else it tests; the process of WebGPU's tests has its own. */
export const runsHere: readonly RunName[] = ['onnx', 'cuda', 'reference']

/** A model on some runtimes. */
export function runsOf({ weights }: Pick<Model, 'weights'>, names: readonly RunName[]): readonly GoldenRun[] {
  const runOn =
    (runtime: () => Runtime | Promise<Runtime>): Run =>
    async (graph, feeds) => {
      const program = await (await runtime()).compile(graph, weights)
      const outputs = await program.run(feeds)
      await program.dispose()
      return outputs
    }
  const onnx = createOnnxRuntime({ threads: 1 })
  const reference: Run = async (graph, feeds) => evaluate(graph, feeds, await referenceWeights(weights))
  const runs: Readonly<Record<RunName, Omit<GoldenRun, 'name'>>> = {
    onnx: { skip: false, tolerance: 1e-5, run: runOn(() => onnx) },
    cuda: { skip: testCuda.skip, tolerance: 1e-5, run: runOn(() => (cuda ??= testCuda.open())) },
    webgpu: { skip: testWebgpu.skip, tolerance: 1e-5, run: runOn(() => (webgpu ??= testWebgpu.open())) },
    reference: { skip: false, tolerance: 1e-12, run: reference },
  }
  return names.map((name) => ({ name, ...runs[name] }))
}

export interface GoldenRuntime extends GoldenRun {
  /** The golden batch with its loss weights as exact as the runtime takes them. */
  readonly feeds: (reduction: 'sum' | 'mean') => Feeds
}

export const model = await openModel(`${goldenFolder}/model`)

export function goldenRuns(names: readonly RunName[]): readonly GoldenRuntime[] {
  return runsOf(model, names).map((each) => ({
    ...each,
    feeds: (reduction) => {
      const feeds = goldenFeeds(reduction)
      if (each.name !== 'reference') return feeds
      return { ...feeds, lossWeights: inFloat64(feeds['lossWeights'] as Tensor) }
    },
  }))
}

/** A weight of 1/3 is no float32 number: the reference gets it in float64, as PyTorch had it. */
export function inFloat64(tensor: Tensor): Tensor {
  const exact = 1 / Math.round(1 / (tensor.data[0] as number))
  return { ...tensor, data: new Float64Array(tensor.data.length).fill(exact) }
}

/** What the reference runtime is given for a model's weights. */
export async function referenceWeights({ folder, tensors }: Weights): Promise<Map<string, Float64Array>> {
  const found = new Map<string, Float64Array>()
  for (const [name, { file, offset, bytes, dtype }] of tensors) {
    const part = (await readFile(path.join(folder, file))).subarray(offset, offset + bytes)
    found.set(name, Float64Array.from(toFloat32(dtype === 'float16' ? 'F16' : 'F32', Uint8Array.from(part))))
  }
  return found
}

// The onnx runtime: graphs lowered to ONNX and run by onnxruntime-node on the CPU.
import assert from 'node:assert/strict'
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node'
import { GraphBuilder } from '../../graph/builder.ts'
import type { Graph } from '../../graph/graph.ts'
import { specialize } from '../../graph/specialize.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Feeds, Program, Runtime } from '../runtime.ts'
import type { Weights } from '../../tensor/weights.ts'
import { OnnxDecodeSession } from './decode-session.ts'
import { lower } from './lower.ts'

export interface OnnxOptions {
  /** Threads inside one operator. */
  readonly threads: number
  /** Whether idle threads wait by spinning: faster between small operators, at the price of a busy processor. */
  readonly spinning?: boolean
}

export function createOnnxRuntime(options: OnnxOptions): Runtime {
  const compile = (graph: Graph, weights: Weights): Promise<Program> => OnnxProgram.compile(graph, weights, options)
  return {
    name: 'onnx',
    compile,
    openSession: async (forward: Graph, weights: Weights, layout: CacheLayout): Promise<DecodeSession> =>
      new OnnxDecodeSession(
        {
          any: await compile(forward, weights),
          oneToken: await compile(specialize(new GraphBuilder(), forward, { B: 1, T: 1, R: 1 }), weights),
        },
        forward,
        layout,
      ),
  }
}

class OnnxProgram implements Program {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  static async compile(
    graph: Graph,
    weights: Weights,
    { threads, spinning = true }: OnnxOptions,
  ): Promise<OnnxProgram> {
    const session = await InferenceSession.create(lower(graph, weights), {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      extra: {
        session: {
          // Weights are found beside model.safetensors and stay memory-mapped: one copy for all processes.
          model_external_initializers_file_folder_path: weights.folder,
          disable_prepacking: '1',
          intra_op: { allow_spinning: spinning ? '1' : '0' },
        },
      },
    })
    return new OnnxProgram(session)
  }

  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const inputs = Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOnnx(tensor)]))
    const outputs = await this.#session.run(inputs)
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, fromOnnx(tensor)]))
  }

  async dispose(): Promise<void> {
    await this.#session.release()
  }
}

function toOnnx({ data, shape }: Tensor): OnnxTensor {
  if (data instanceof Int32Array) return new OnnxTensor('int32', data, shape)
  assert.ok(data instanceof Float32Array, 'the onnx runtime takes float32 arrays')
  return new OnnxTensor('float32', data, shape)
}

function fromOnnx(tensor: OnnxTensor): Tensor {
  assert.ok(tensor.data instanceof Float32Array, `unexpected output of type ${tensor.type}`)
  return { dtype: 'float32', shape: tensor.dims, data: tensor.data }
}

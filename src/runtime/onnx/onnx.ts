// The onnx runtime: graphs lowered to ONNX and run by onnxruntime-node on the CPU.
import assert from 'node:assert/strict'
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node'
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import type { CacheLayout, DecodeSession, Feeds, Program, Runtime } from '../runtime.ts'
import type { Weights } from '../../tensor/weights.ts'
import { OnnxDecodeSession } from './decode-session.ts'
import { lower } from './lower.ts'

export interface OnnxOptions {
  /** Threads inside one operator. */
  readonly threads: number
  /**
   * Whether a decode session holds a copy of the weights in the order in which products read them: a step of one row takes
   * three quarters of the time, of eight rows half, and the process that much memory. Elsewhere weights stay memory-mapped.
   */
  readonly packed?: boolean
}

export function createOnnxRuntime({ threads, packed = false }: OnnxOptions): Runtime {
  return {
    name: 'onnx',
    compile: (graph, weights) => OnnxProgram.compile(graph, weights, threads, false),
    openSession: async (forward: Graph, weights: Weights, layout: CacheLayout): Promise<DecodeSession> =>
      new OnnxDecodeSession(await OnnxProgram.compile(forward, weights, threads, packed), forward, layout),
  }
}

class OnnxProgram implements Program {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  static async compile(graph: Graph, weights: Weights, threads: number, packed: boolean): Promise<OnnxProgram> {
    const session = await InferenceSession.create(lower(graph, weights), {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      extra: {
        session: {
          // Weights are found beside model.safetensors and, unless packed, stay memory-mapped: one copy for all processes.
          model_external_initializers_file_folder_path: weights.folder,
          disable_prepacking: packed ? '0' : '1',
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

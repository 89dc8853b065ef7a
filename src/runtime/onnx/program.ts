// A lowered graph opened as a session of onnxruntime-node on the CPU.
import assert from 'node:assert/strict'
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node'
import type { Tensor } from '../../tensor/tensor.ts'
import type { Feeds, Program } from '../runtime.ts'

export interface SessionOptions {
  /** Threads inside one operator. */
  readonly threads: number
  /** Whether weights are copied into the order in which products read them, instead of staying memory-mapped. */
  readonly packed: boolean
  /**
   * Whether threads look for more work for a while after an operator, which takes a core from everybody else; true unless said.
   * Without, they have to be woken for each operator.
   */
  readonly spins?: boolean
}

export class OnnxProgram implements Program {
  readonly #session: InferenceSession

  private constructor(session: InferenceSession) {
    this.#session = session
  }

  /** `model` is what `lower` answers, `folder` the one that its weights are found below. */
  static async open(
    model: Uint8Array,
    folder: string,
    { threads, packed, spins = true }: SessionOptions,
  ): Promise<OnnxProgram> {
    const session = await InferenceSession.create(model, {
      executionProviders: ['cpu'],
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      extra: {
        session: {
          // Unless packed, weights stay memory-mapped: one copy for all processes.
          model_external_initializers_file_folder_path: folder,
          disable_prepacking: packed ? '0' : '1',
          intra_op: { allow_spinning: spins ? '1' : '0' },
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

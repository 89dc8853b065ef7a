// The onnx runtime: graphs lowered to ONNX and run by onnxruntime-node on the CPU.
import type { Graph } from '../../graph/graph.ts'
import type { Weights } from '../../tensor/weights.ts'
import { partsMax, type DecodeSession, type Program, type Runtime } from '../runtime.ts'
import { OnnxDecodeSession } from './decode-session.ts'
import { FastForms, type FastOptions } from './fast.ts'
import { crossByHead, keysByPosition } from './keys-by-position.ts'
import { lower } from './lower.ts'
import { OnnxProgram } from './program.ts'
import { SourceReader } from './source-reader.ts'

export interface OnnxOptions {
  /** Threads inside one operator. */
  readonly threads: number
  /**
   * Whether a decode session holds a copy of the weights in the order in which products read them: a step of one row takes
   * three quarters of the time, of eight rows half, and the process that much memory. Trainings always do.
   */
  readonly packed?: boolean
  /** Lets graphs be compiled and decoded in 8 bits. */
  readonly fast?: FastOptions
}

/**
 * A training takes thousands of steps, each of many rows: packed, they take a tenth to a seventh less time, and memory as much more
 * as the layers have. What runs now and then, a validation or a fold, leaves the weights memory-mapped.
 */
const isTraining = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === 'crossEntropyGrad')

/** One more than a step has parts: rows that decode are in two where some of them are long. */
const sessionSegments = partsMax + 1

export function createOnnxRuntime({ threads, packed = false, fast }: OnnxOptions): Runtime {
  const forms = new FastForms(threads, fast)
  const compile = async (graph: Graph, weights: Weights, isPacked: boolean): Promise<Program> =>
    OnnxProgram.open(lower(graph, weights), weights.folder, { threads, packed: isPacked })
  return {
    name: 'onnx',
    segments: sessionSegments,
    compile: (graph, weights, form = 'float32') =>
      form === 'float32' ? compile(graph, weights, isTraining(graph)) : forms.compile(graph, weights, form),
    fastForm: (graph, weights, wanted) => forms.choose(graph, weights, wanted),
    decodingForm: (forward, weights) => forms.chooseDecoding(forward, weights),
    openSession: async (forward, weights, layout, form = 'float32', encoder = null): Promise<DecodeSession> => {
      const fed = keysByPosition(forward)
      const isPlain = form === 'float32'
      const program = await (isPlain ? compile(fed, weights, packed) : forms.compile(fed, weights, form, encoder))
      if (encoder === null) return new OnnxDecodeSession(program, forward, layout)
      const read = crossByHead(encoder, layout)
      const reading = isPlain ? null : await forms.openReading(read, fed, weights, form)
      const reader = new SourceReader(reading ?? (await compile(read, weights, packed)), encoder, layout)
      return new OnnxDecodeSession(program, forward, layout, reader)
    },
  }
}

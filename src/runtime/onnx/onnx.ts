// The onnx runtime: graphs lowered to ONNX and run by onnxruntime-node on the CPU.
import type { Graph } from '../../graph/graph.ts'
import type { Weights } from '../../tensor/weights.ts'
import { partsMax, type CacheLayout, type DecodeSession, type Program, type Runtime } from '../runtime.ts'
import { Avx2Program, type KernelWatch } from '../avx2/program.ts'
import { unsupported } from '../avx2/supported.ts'
import { OnnxDecodeSession } from './decode-session.ts'
import { FastForms, type FastOptions } from './fast.ts'
import type { ServingForm } from './forms.ts'
import { crossByHead, keysByPosition, withoutPresent } from './keys-by-position.ts'
import { lower } from './lower.ts'
import { OwnCode } from './own-code.ts'
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
  /** Whether float32 trainings and evaluations run by machine code of our own where that is faster; true unless said. */
  readonly ownCode?: boolean
  /** Told of each operation of these, for measuring: they take longer so. */
  readonly watch?: KernelWatch
}

/**
 * A training takes thousands of steps, each of many rows: packed, they take a tenth to a seventh less time, and memory as much more
 * as the layers have. What runs now and then, a validation or a fold, leaves the weights memory-mapped.
 */
const isTraining = (graph: Graph): boolean => graph.nodes.some(({ op }) => op === 'crossEntropyGrad')

/** One more than a step has parts: rows that decode are in two where some of them are long. */
const sessionSegments = partsMax + 1

export function createOnnxRuntime({ threads, packed = false, fast, ownCode = true, watch }: OnnxOptions): Runtime {
  const forms = new FastForms(threads, fast)
  const compile = async (graph: Graph, weights: Weights, isPacked: boolean): Promise<Program> =>
    OnnxProgram.open(lower(graph, weights), weights.folder, { threads, packed: isPacked })
  /** Threads of onnxruntime spin after a run, and those of `words` would have to share the cores with them: so it reads as it decodes. */
  const readingForm = async (encoder: Graph, form: string): Promise<ServingForm> =>
    form === 'float32' || (form === 'words' && unsupported(encoder) === null) ? form : forms.chooseReading(encoder)
  const own = new OwnCode(threads, watch)
  return {
    name: 'onnx',
    segments: sessionSegments,
    compile: async (graph, weights, form = 'float32') =>
      form === 'float32'
        ? ((ownCode ? await own.open(graph, weights) : null) ?? compile(graph, weights, isTraining(graph)))
        : forms.compile(graph, weights, form),
    fastForm: (graph, weights, wanted) => forms.choose(graph, weights, wanted),
    decodingForm: (forward, weights) => forms.chooseDecoding(forward, weights),
    openSession: async (forward, weights, layout, form = 'float32', encoder = null): Promise<DecodeSession> => {
      const loaded = own.loaded(weights)
      const fed = keysByPosition(forward)
      const program =
        form === 'words'
          ? new Avx2Program(withoutPresent(fed), loaded, { threads, appends: true })
          : form === 'float32'
            ? await compile(fed, weights, packed)
            : await forms.compile(fed, weights, form, encoder)
      const options = { appends: form === 'words' }
      if (encoder === null) return new OnnxDecodeSession(program, forward, layout, options)
      const reader = await openReader(encoder, layout, await readingForm(encoder, form))
      return new OnnxDecodeSession(program, forward, layout, { ...options, reader })

      async function openReader(graph: Graph, cache: CacheLayout, reading: ServingForm): Promise<SourceReader> {
        if (reading === 'words') {
          const read = new Avx2Program(crossByHead(keysByPosition(graph), cache), loaded, { threads })
          return new SourceReader(read, graph, cache, 'byPosition')
        }
        const read = crossByHead(graph, cache)
        if (reading === 'float32') return new SourceReader(await compile(read, weights, packed), graph, cache)
        // What both have in one form is kept in the same file.
        return new SourceReader(
          await forms.compile(read, weights, reading, reading === form ? fed : null),
          graph,
          cache,
        )
      }
    },
  }
}

// Graphs with a model in them in float32, by machine code of our own where that is faster than onnxruntime's.
import { cutGraph } from '../../graph/cut.ts'
import type { Graph } from '../../graph/graph.ts'
import { turnedInParts } from '../../graph/turns.ts'
import type { Weights } from '../../tensor/weights.ts'
import { processorFlags, wordsProblem } from '../avx2/available.ts'
import { Avx2Program, type KernelWatch, poolThreads } from '../avx2/program.ts'
import { lacking, unsupported } from '../avx2/supported.ts'
import { LoadedWeights } from '../avx2/weights.ts'
import type { Program } from '../runtime.ts'
import { StagedProgram } from '../staged-program.ts'
import { lower } from './lower.ts'
import { OnnxProgram } from './program.ts'

export interface Machine {
  /** Of the processor, as Linux names them. */
  readonly flags: ReadonlySet<string>
  /** Of libuv in this process. */
  readonly poolThreads: number
}

/** Why onnxruntime has fewer clocks to spend, on a machine that can run our code; null: it does not. */
export function slowerReason({ flags, poolThreads }: Machine, threads: number): string | null {
  if (flags.has('avx512f')) return 'the processor has vectors twice as wide, which onnxruntime uses'
  return threads > poolThreads ? `libuv has ${poolThreads} threads, and ${threads} are wanted` : null
}

/** What the programs of one runtime share. */
export class OwnCode {
  readonly #threads: number
  readonly #watch: KernelWatch | undefined
  /** Packed once for all that are open over them, and gone with the last. */
  readonly #loaded = new WeakMap<Weights, WeakRef<LoadedWeights>>()

  /** `watch` is told of each operation, for measuring. */
  constructor(threads: number, watch?: KernelWatch) {
    this.#threads = threads
    this.#watch = watch
  }

  loaded(weights: Weights): LoadedWeights {
    const known = this.#loaded.get(weights)?.deref()
    if (known !== undefined) return known
    const loaded = LoadedWeights.from(weights)
    this.#loaded.set(weights, new WeakRef(loaded))
    return loaded
  }

  /** onnxruntime has what is around the model; null: it should have all of it, on this machine or of this graph. */
  async open(graph: Graph, weights: Weights): Promise<Program | null> {
    const [threads, watch] = [this.#threads, this.#watch]
    if ((await wordsProblem()) !== null) return null
    if (slowerReason({ flags: processorFlags(), poolThreads: poolThreads() }, threads) !== null) return null
    const cut = cutGraph(turnedInParts(graph), (node) => lacking(node, 'float32') === null)
    if (cut === null || unsupported(cut.trunk, 'float32') !== null) return null
    return StagedProgram.open(cut, {
      trunk: (trunk) => new Avx2Program(trunk, this.loaded(weights), { threads, form: 'float32', watch }),
      // Its threads would go on spinning while the trunk runs.
      around: (part) =>
        OnnxProgram.open(lower(part, weights), weights.folder, { threads, packed: false, spins: false }),
    })
  }
}

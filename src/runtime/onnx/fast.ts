// Products with frozen weights in 8 bits: which form this machine is to use for a model, and programs in that form.
import type { Graph } from '../../graph/graph.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import type { Weights } from '../../tensor/weights.ts'
import type { Program } from '../runtime.ts'
import { wordsProblem } from '../avx2/available.ts'
import { unsupported } from '../avx2/supported.ts'
import { Avx2Program } from '../avx2/program.ts'
import { LoadedWeights } from '../avx2/weights.ts'
import { keysByPosition, withoutPresent } from './keys-by-position.ts'
import { frozenProducts, quantizedForms, type LinearForm, type ServingForm } from './forms.ts'
import { lower } from './lower.ts'
import { fastestForm, isExact, type Timing } from './measure.ts'
import type { LayerShape } from './measured-layers.ts'
import { decoded, describeDecoding, fastestDecodingForm, gainMin, isUsable } from './measure-decoding.ts'
import { gainOfWords } from './measure-words.ts'
import { read, readLayers, readRows, type Compared } from './measure-decoding.ts'
import { OnnxProgram } from './program.ts'
import { withQuantized } from './quantized-weights.ts'
import { rememberedForm, rememberForm, type Work } from './remembered-forms.ts'

export interface FastOptions {
  /** Where weights in 8 bits are kept, two bytes for each parameter of the frozen layers, one more for decoding. Made when first needed. */
  readonly folder: string
  /** Hears what was measured. */
  readonly note?: (message: string) => void
  /** Hears why products stay in float32 though they would be faster. */
  readonly warn?: (message: string) => void
}

export class FastForms {
  readonly #threads: number
  readonly #options: FastOptions | undefined
  /** By the shape of the layer. */
  readonly #measured = new Map<string, Promise<LinearForm>>()

  constructor(threads: number, options: FastOptions | undefined) {
    this.#threads = threads
    this.#options = options
  }

  /**
   * The form for products of `graph` with its frozen weights: `wanted` where this machine computes it exactly, otherwise the
   * fastest here. `float32` where nothing is faster, or where weights in 8 bits cannot be kept: a warning says why.
   */
  async choose(graph: Graph, weights: Weights, wanted?: string): Promise<string> {
    if (this.#options === undefined || wanted === 'float32') return 'float32'
    const { folder, note = () => undefined } = this.#options
    const asked = quantizedForms.find((form) => form === wanted)
    const isUsable = asked !== undefined && (await isExact(asked, this.#threads))
    const form = isUsable ? asked : await this.#fastest(graph, folder, note)
    return this.#kept(graph, weights, form, 'training')
  }

  /** The form for decoding `forward`, where rows are few and reading the weights is most of the work. */
  async chooseDecoding(forward: Graph, weights: Weights): Promise<string> {
    if (this.#options === undefined) return 'float32'
    const { folder, note = () => undefined } = this.#options
    const shape = largestLayer(forward)
    const compared = { ...decoded, forms: formsFor(decoded, forward) }
    const remembered = await rememberedForm(folder, shape, this.#threads, 'decoding')
    if (remembered !== null && compared.forms.includes(remembered) && (await isUsable(remembered, this.#threads)))
      return this.#kept(forward, weights, remembered, 'decoding')
    const layers = { ...compared, forms: compared.forms.filter((each) => each !== 'words') }
    const fastest = await fastestDecodingForm(shape, layersOf(forward, shape), this.#threads, layers)
    const { gain, problem } = await this.#gainOfWords(forward, weights)
    const form = gain > Math.max(gainMin, fastest.gain) ? 'words' : fastest.form
    const words = problem === null ? `are ${gain.toFixed(2)} times as fast as float32` : `cannot be had: ${problem}`
    const timings = describeDecoding(fastest.timings)
    note(`decoding through layers [${shape}] is done in the form ${form}; ${timings}; whole steps in words ${words}`)
    await rememberForm(folder, shape, this.#threads, form, 'decoding')
    return this.#kept(forward, weights, form, 'decoding')
  }

  /** 0 where there is a problem. */
  async #gainOfWords(
    forward: Graph,
    weights: Weights,
  ): Promise<{ readonly gain: number; readonly problem: string | null }> {
    const fed = keysByPosition(forward)
    const lacking = unsupported(fed)
    const problem = lacking === null ? await wordsProblem() : `there is no kernel for ${lacking}`
    if (problem !== null) return { gain: 0, problem }
    const options = { threads: this.#threads, appends: true, packed: true }
    const words = new Avx2Program(withoutPresent(fed), LoadedWeights.from(weights), options)
    const plain = await OnnxProgram.open(lower(fed, weights), weights.folder, options)
    const gain = await gainOfWords(fed, words, plain)
    await Promise.all([words.dispose(), plain.dispose()])
    return { gain, problem }
  }

  /** `form`, once its weights are in the folder; `words` makes its own from the checkpoint's. */
  async #kept(graph: Graph, weights: Weights, form: ServingForm, work: Work): Promise<string> {
    if (form === 'float32' || this.#options === undefined) return 'float32'
    if (form === 'words') return form
    const { folder, warn = () => undefined } = this.#options
    try {
      await withQuantized(weights, frozenProducts(graph, form), form, folder)
      return form
    } catch (error) {
      warn(`weights in 8 bits cannot be kept in ${folder}, ${work} goes on in float32: ${(error as Error).message}`)
      return 'float32'
    }
  }

  /** Packed, whatever the runtime does in float32: products take longer if not, those of few rows many times as long. */
  async compile(graph: Graph, weights: Weights, form: string, beside: Graph | null = null): Promise<Program> {
    const known = quantizedForms.find((each) => each === form)
    if (this.#options === undefined || known === undefined)
      throw new Error(`the onnx runtime was not opened for ${form}`)
    // The weights of `beside` are kept in the same file.
    const products = [graph, beside].flatMap((each) => (each === null ? [] : frozenProducts(each, known)))
    const all = await withQuantized(weights, products, known, this.#options.folder)
    return OnnxProgram.open(lower(graph, all, { form: known }), all.folder, { threads: this.#threads, packed: true })
  }

  /** The form in which this machine reads many positions fastest; float32 where it knows no other. */
  async chooseReading(encoder: Graph): Promise<ServingForm> {
    if (this.#options === undefined) return 'float32'
    const { folder, note = () => undefined } = this.#options
    const shape = largestLayer(encoder)
    const compared = { ...read, forms: formsFor(read, encoder) }
    const remembered = await rememberedForm(folder, shape, this.#threads, 'reading')
    if (remembered !== null && compared.forms.includes(remembered) && (await isUsable(remembered, this.#threads)))
      return remembered
    const { form, timings } = await fastestDecodingForm(shape, readLayers, this.#threads, compared)
    note(`sources are read through layers [${shape}] in the form ${form}; ${describeDecoding(timings, readRows)}`)
    await rememberForm(folder, shape, this.#threads, form, 'reading')
    return form
  }

  #fastest(graph: Graph, folder: string, note: (message: string) => void): Promise<LinearForm> {
    const shape = largestLayer(graph)
    const key = shape.join()
    const earlier = this.#measured.get(key)
    if (earlier !== undefined) return earlier
    const measured = this.#measure(shape, folder, note)
    this.#measured.set(key, measured)
    return measured
  }

  async #measure(shape: LayerShape, folder: string, note: (message: string) => void): Promise<LinearForm> {
    const remembered = await rememberedForm(folder, shape, this.#threads)
    if (remembered !== null && remembered !== 'words' && (await isExact(remembered, this.#threads))) return remembered
    const { form, timings } = await fastestForm(shape, this.#threads)
    note(`products of a layer [${shape}] are computed in the form ${form}; ${describe(timings)}`)
    await rememberForm(folder, shape, this.#threads, form)
    return form
  }
}

/** Those that can compute such a graph. */
const formsFor = ({ forms }: Compared, graph: Graph): readonly ServingForm[] =>
  unsupported(graph) === null ? forms : forms.filter((form) => form !== 'words')

/** Of the layers, heads not among them: where most of a step goes. */
function largestLayer(graph: Graph): LayerShape {
  let largest: LayerShape = [1, 1]
  const answers = new Set(Object.values(graph.outputs).map(({ node }) => node))
  for (const node of graph.nodes) {
    if (node.op !== 'linear' || node.inputs[1].node.op !== 'weight' || answers.has(node)) continue
    const [rows, columns] = node.inputs[1].node.attributes.shape as unknown as LayerShape
    if (rows * columns > largest[0] * largest[1]) largest = [rows, columns]
  }
  return largest
}

/** So many layers of that shape, there and back again, have as many weights as the graph's products. */
function layersOf(graph: Graph, [rows, columns]: LayerShape): number {
  const weights = graph.nodes.reduce((sum, node) => {
    const w = node.op === 'linear' ? node.inputs[1].node : null
    return w?.op === 'weight' ? sum + sizeOf(w.attributes.shape as readonly number[]) : sum
  }, 0)
  return Math.max(1, Math.round(weights / (2 * rows * columns)))
}

const describe = (timings: readonly Timing[]): string =>
  timings.map(({ form, ms }) => (ms === null ? `${form} is inexact here` : `${form} ${ms.toFixed(2)} ms`)).join(', ')

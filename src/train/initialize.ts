// Where a prefix starts from: the keys and values that real words give in the frozen model, a stored prefix, or random numbers.
import { ServiceError } from '../errors/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { makeGraph } from '../graph/graph.ts'
import type { Model } from '../model/model.ts'
import type { Prefix } from '../prefix/prefix.ts'
import { forkSeed, Random } from '../random/random.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { int32, sizeOf, type Tensor } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { embeddingParameter } from './embedding.ts'
import { fitRows } from './fit.ts'
import { networkOf, parameterShapes, type Parameters, type PrefixShape } from './parameters.ts'
import { wordActivations } from './words.ts'

export interface InitialParts {
  readonly runtime: Runtime
  readonly model: Model
  readonly tokenizer: Tokenizer
}

/** Standard deviation of random keys and values. */
const randomDeviation = 0.1

/** `initialization` is `random` or `text:WORDS`; throws `invalid_request` for anything else. */
export async function initialParameters(
  parts: InitialParts,
  shape: PrefixShape,
  initialization: string,
  seed: number,
): Promise<Parameters> {
  const random = new Random(forkSeed(seed, initialSeed))
  const parameters = randomParameters(shape, random)
  if (initialization === 'random') return parameters
  const words = initialization.startsWith('text:') ? initialization.slice('text:'.length).trim() : ''
  if (words === '') {
    throw new ServiceError(
      'invalid_request',
      `initialization is ${JSON.stringify(initialization)}, not "random" or "text:" and words`,
    )
  }
  const tokens = wordTokens(parts, shape, words)
  if (shape.variant === 'embedding') parameters.set(embeddingParameter, await wordEmbeddings(parts, tokens))
  else startFrom(parameters, shape, await wordActivations(parts, shape, tokens))
  return parameters
}

/** Parameters that give the keys and values of `prefix`, of the same shape. */
export function continuedParameters(shape: PrefixShape, prefix: KeysAndValues, seed: number): Parameters {
  const parameters = randomParameters(shape, new Random(forkSeed(seed, initialSeed)))
  startFrom(parameters, shape, prefix)
  return parameters
}

/** [layers, heads, P, headDim] each. */
type KeysAndValues = Pick<Prefix, 'keys' | 'values'>

function startFrom(parameters: Parameters, shape: PrefixShape, { keys, values }: KeysAndValues): void {
  if (shape.reparametrization === 0) {
    parameters.set('keys', Float32Array.from(keys))
    parameters.set('values', Float32Array.from(values))
    return
  }
  const { heads, headDim, prefixLength, places } = shape
  let from = 0
  for (const place of places) {
    const to = from + place.layers * heads * prefixLength * headDim
    fitNetwork(
      parameters,
      networkOf(place),
      { ...shape, layers: place.layers },
      { keys: keys.subarray(from, to), values: values.subarray(from, to) },
    )
    from = to
  }
}

/** Keeps the stream of initial values apart from that of the batches, whose epochs count from 0. */
const initialSeed = 0x5eed

/** PyTorch's defaults, which the paper's code has: N(0, 1) embeddings, U(±1/√in) for linear layers. */
function randomParameters(shape: PrefixShape, random: Random): Parameters {
  const draw = (name: string, extents: readonly number[]): Float32Array => {
    const normal = name.endsWith('embedding') ? 1 : randomDeviation
    const fanIn =
      name.endsWith('hidden.weight') || name.endsWith('hidden.bias')
        ? shape.heads * shape.headDim
        : shape.reparametrization
    const uniform = name.endsWith('.weight') || name.endsWith('.bias')
    return Float32Array.from({ length: sizeOf(extents) }, () =>
      uniform ? (2 * random.next() - 1) / Math.sqrt(fanIn) : normal * random.normal(),
    )
  }
  return new Map([...parameterShapes(shape)].map(([name, extents]) => [name, draw(name, extents)]))
}

/** The words' first P tokens, the words repeated as often as it takes. */
function wordTokens({ tokenizer }: InitialParts, { prefixLength }: PrefixShape, words: string): Int32Array {
  const tokens: number[] = []
  while (tokens.length < prefixLength) tokens.push(...tokenizer.encode(` ${words}`))
  return Int32Array.from(tokens.slice(0, prefixLength))
}

/** [tokens, width] */
async function wordEmbeddings({ runtime, model }: InitialParts, tokens: Int32Array): Promise<Float32Array> {
  const g = new GraphBuilder()
  const embeddings = g.gather(model.embedding(g), g.input('tokens', [tokens.length], 'int32'))
  const program = await runtime.compile(makeGraph({ embeddings }), model.weights)
  const outputs = await program.run({ tokens: int32(tokens, [tokens.length]) })
  await program.dispose()
  return (outputs['embeddings'] as Tensor).data as Float32Array
}

/** Sets the output layer so that a place's network gives these keys and values: least squares in place of the paper's 500 steps. */
function fitNetwork(parameters: Parameters, network: string, shape: PrefixShape, prefix: KeysAndValues): void {
  const { layers, heads, headDim, prefixLength, reparametrization } = shape
  const width = heads * headDim
  const [embedding, weight, bias] = ['embedding', 'hidden.weight', 'hidden.bias'].map(
    (name) => parameters.get(network + name) as Float32Array,
  )
  const hidden = Float64Array.from({ length: prefixLength * reparametrization }, (_, i) => {
    const [p, column] = [Math.floor(i / reparametrization), i % reparametrization]
    let sum = bias?.[column] as number
    for (let d = 0; d < width; d++)
      sum += (embedding?.[p * width + d] as number) * (weight?.[d * reparametrization + column] as number)
    return Math.tanh(sum)
  })
  // Column ((2·layer + s)·heads + head)·headDim + i of row p.
  const target = new Float64Array(prefixLength * 2 * layers * width)
  for (const [s, half] of [prefix.keys, prefix.values].entries()) {
    for (let at = 0; at < half.length; at += headDim) {
      const p = (at / headDim) % prefixLength
      const head = Math.floor(at / (headDim * prefixLength))
      const [l, h] = [Math.floor(head / heads), head % heads]
      target.set(half.subarray(at, at + headDim), p * 2 * layers * width + ((2 * l + s) * heads + h) * headDim)
    }
  }
  const fitted = fitRows(hidden, target, prefixLength)
  parameters.set(`${network}output.weight`, fitted.weight)
  parameters.set(`${network}output.bias`, fitted.bias)
}

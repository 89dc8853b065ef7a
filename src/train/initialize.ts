// Where a prefix starts from: the keys and values that real words give in the frozen model, a stored prefix, or random numbers.
import { ServiceError } from '../errors/errors.ts'
import { GraphBuilder } from '../graph/builder.ts'
import { makeGraph } from '../graph/graph.ts'
import { gpt2Embedding } from '../model/gpt2.ts'
import type { Model } from '../model/model.ts'
import type { Prefix } from '../prefix/prefix.ts'
import { forkSeed, Random } from '../random/random.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { float32, int32, sizeOf, type Tensor } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { embeddingParameter } from './embedding.ts'
import { fitRows } from './fit.ts'
import { parameterShapes, type Parameters, type PrefixShape } from './parameters.ts'

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
  else {
    const activations = await wordActivations(parts, shape, tokens)
    const [keys, values] = [layerMajor(activations, shape, 0), layerMajor(activations, shape, 1)]
    startFrom(parameters, shape, { keys, values })
  }
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
  if (shape.reparametrization > 0) fitNetwork(parameters, shape, { keys, values })
  else {
    parameters.set('keys', Float32Array.from(keys))
    parameters.set('values', Float32Array.from(values))
  }
}

/** Keeps the stream of initial values apart from that of the batches, whose epochs count from 0. */
const initialSeed = 0x5eed

/** PyTorch's defaults, which the paper's code has: N(0, 1) embeddings, U(±1/√in) for linear layers. */
function randomParameters(shape: PrefixShape, random: Random): Parameters {
  const draw = (name: string, extents: readonly number[]): Float32Array => {
    const normal = name === 'embedding' ? 1 : randomDeviation
    const fanIn = name.startsWith('hidden.') ? shape.heads * shape.headDim : shape.reparametrization
    const uniform = name.includes('.')
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
  const embeddings = g.gather(gpt2Embedding(g, model.config), g.input('tokens', [tokens.length], 'int32'))
  const program = await runtime.compile(makeGraph({ embeddings }), model.weights)
  const outputs = await program.run({ tokens: int32(tokens, [tokens.length]) })
  await program.dispose()
  return (outputs['embeddings'] as Tensor).data as Float32Array
}

/** Keys and values of the tokens at positions 0 to P − 1: [2·layers, P, width]. */
async function wordActivations(
  { runtime, model }: InitialParts,
  shape: PrefixShape,
  tokens: Int32Array,
): Promise<Float32Array> {
  const { layers, heads, headDim, prefixLength } = shape
  const program = await runtime.compile(model.forwardGraph(), model.weights)
  const empty = Object.fromEntries(
    Array.from({ length: layers }, (_, l): [string, Tensor][] => [
      [`pastKey.${l}`, float32(new Float32Array(heads * headDim), [1, heads, headDim, 1])],
      [`pastValue.${l}`, float32(new Float32Array(heads * headDim), [1, heads, 1, headDim])],
    ]).flat(),
  )
  const { present } = await program.run({
    ...empty,
    tokens: int32(tokens, [1, prefixLength]),
    positions: int32(
      Int32Array.from({ length: prefixLength }, (_, t) => t),
      [1, prefixLength],
    ),
    rows: int32(Int32Array.of(0), [1]),
    pastLengths: int32(Int32Array.of(0), [1]),
  })
  await program.dispose()
  return (present as Tensor).data as Float32Array
}

/** Half `s` of [2·layers, P, heads·headDim], as [layers, heads, P, headDim]. */
function layerMajor(
  activations: Float32Array,
  { layers, heads, headDim, prefixLength }: PrefixShape,
  s: 0 | 1,
): Float32Array {
  const out = new Float32Array(layers * heads * prefixLength * headDim)
  let at = 0
  for (let l = 0; l < layers; l++) {
    for (let h = 0; h < heads; h++) {
      for (let p = 0; p < prefixLength; p++, at += headDim) {
        const from = (((2 * l + s) * prefixLength + p) * heads + h) * headDim
        out.set(activations.subarray(from, from + headDim), at)
      }
    }
  }
  return out
}

/** Sets the output layer so that the network gives these keys and values: least squares in place of the paper's 500 steps. */
function fitNetwork(parameters: Parameters, shape: PrefixShape, prefix: KeysAndValues): void {
  const { layers, heads, headDim, prefixLength, reparametrization } = shape
  const width = heads * headDim
  const [embedding, weight, bias] = ['embedding', 'hidden.weight', 'hidden.bias'].map(
    (name) => parameters.get(name) as Float32Array,
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
  parameters.set('output.weight', fitted.weight)
  parameters.set('output.bias', fitted.bias)
}

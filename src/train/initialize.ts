// Where a prefix starts from: the keys and values that real words give in the frozen model, or random numbers.
import { ServiceError } from '../errors/errors.ts'
import type { Model } from '../model/model.ts'
import { forkSeed, Random } from '../random/random.ts'
import type { Runtime } from '../runtime/runtime.ts'
import { float32, int32, sizeOf, type Tensor } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
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
  const activations = await wordActivations(parts, shape, words)
  if (shape.reparametrization > 0) fitNetwork(parameters, shape, activations)
  else {
    parameters.set('keys', layerMajor(activations, shape, 0))
    parameters.set('values', layerMajor(activations, shape, 1))
  }
  return parameters
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

/** Keys and values of the words' first P tokens, the words repeated as often as it takes: [2·layers, P, width]. */
async function wordActivations(
  { runtime, model, tokenizer }: InitialParts,
  shape: PrefixShape,
  words: string,
): Promise<Float32Array> {
  const { layers, heads, headDim, prefixLength } = shape
  const tokens: number[] = []
  while (tokens.length < prefixLength) tokens.push(...tokenizer.encode(` ${words}`))
  const program = await runtime.compile(model.forwardGraph(), model.weights)
  const empty = Object.fromEntries(
    Array.from({ length: layers }, (_, l): [string, Tensor][] => [
      [`pastKey.${l}`, float32(new Float32Array(heads * headDim), [1, heads, headDim, 1])],
      [`pastValue.${l}`, float32(new Float32Array(heads * headDim), [1, heads, 1, headDim])],
    ]).flat(),
  )
  const { present } = await program.run({
    ...empty,
    tokens: int32(Int32Array.from(tokens.slice(0, prefixLength)), [1, prefixLength]),
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

/** Sets the output layer so that the network gives the words' keys and values: least squares in place of the paper's 500 steps. */
function fitNetwork(parameters: Parameters, shape: PrefixShape, activations: Float32Array): void {
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
  // Column (2·layer + s)·width + i of row p.
  const target = new Float64Array(prefixLength * 2 * layers * width)
  for (let half = 0; half < 2 * layers; half++) {
    for (let p = 0; p < prefixLength; p++) {
      const from = (half * prefixLength + p) * width
      target.set(activations.subarray(from, from + width), (p * 2 * layers + half) * width)
    }
  }
  const fitted = fitRows(hidden, target, prefixLength)
  parameters.set('output.weight', fitted.weight)
  parameters.set('output.bias', fitted.bias)
}

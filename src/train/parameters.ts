// What is trained: keys and values directly, or a small network that makes them (Li & Liang 2021, section 4.3).
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { ModelConfig } from '../model/config.ts'
import type { LayerPast } from '../model/gpt2.ts'
import type { Model } from '../model/model.ts'
import { embeddingParameter, embeddingValues } from './embedding.ts'
import type { PrefixVariant } from './options.ts'

/** Trainables by name, in the order the optimizer walks them. */
export type Parameters = Map<string, Float32Array>

export interface PrefixShape {
  readonly prefixLength: number
  readonly layers: number
  readonly heads: number
  readonly headDim: number
  /** Hidden width of the reparametrization; 0: none. */
  readonly reparametrization: number
  readonly variant: PrefixVariant
}

export function prefixShape(
  { layers, heads, headDim }: ModelConfig,
  prefixLength: number,
  reparametrization: number,
  variant: PrefixVariant = 'prefix',
): PrefixShape {
  return { prefixLength, layers, heads, headDim, reparametrization, variant }
}

/** The same keys and values as they are once training is over, whatever made them. */
export function foldedShape(shape: PrefixShape): PrefixShape {
  return { ...shape, reparametrization: 0, variant: shape.variant === 'infix' ? 'infix' : 'prefix' }
}

/** Direct: keys and values. Embedding: the inputs. Reparametrized: embedding → linear → tanh → linear. */
export function parameterShapes({
  prefixLength,
  layers,
  heads,
  headDim,
  reparametrization: hidden,
  variant,
}: PrefixShape): Map<string, readonly number[]> {
  const width = heads * headDim
  if (variant === 'embedding') return new Map([[embeddingParameter, [prefixLength, width]]])
  if (hidden === 0) {
    const shape = [layers, heads, prefixLength, headDim]
    return new Map([
      ['keys', shape],
      ['values', shape],
    ])
  }
  return new Map([
    ['embedding', [prefixLength, width]],
    ['hidden.weight', [width, hidden]],
    ['hidden.bias', [hidden]],
    ['output.weight', [hidden, 2 * layers * width]],
    ['output.bias', [2 * layers * width]],
  ])
}

export interface PrefixValues {
  /** The graph's inputs that are trained, by name. */
  readonly trainables: ReadonlyMap<string, Value>
  /** [layers, heads, prefixLength, headDim] */
  readonly keys: Value
  /** [layers, heads, prefixLength, headDim] */
  readonly values: Value
}

/**
 * Adds the prefix to a graph. The network's output column is ((2·layer + s)·heads + head)·headDim + i, with s = 0
 * for keys and 1 for values.
 */
export function prefixValues(g: GraphBuilder, model: Pick<Model, 'decoder'>, shape: PrefixShape): PrefixValues {
  if (shape.variant === 'embedding') return embeddingValues(g, model, shape)
  const { layers, heads, headDim, prefixLength } = shape
  const trainables = new Map([...parameterShapes(shape)].map(([name, extents]) => [name, g.input(name, extents)]))
  const of = (name: string): Value => trainables.get(name) as Value
  if (shape.reparametrization === 0) return { trainables, keys: of('keys'), values: of('values') }

  const activation = g.tanh(g.linear(of('embedding'), of('hidden.weight'), of('hidden.bias')))
  const output = g.linear(activation, of('output.weight'), of('output.bias'))
  const apart = g.transpose(g.reshape(output, [prefixLength, layers, 2, heads, headDim]), [2, 1, 3, 0, 4])
  const [keys, values] = g
    .split(apart, 0, [1, 1])
    .map((half) => g.reshape(half, [layers, heads, prefixLength, headDim])) as [Value, Value]
  return { trainables, keys, values }
}

/** The prefix as each layer's past, one for all rows of the batch. */
export function prefixPast(g: GraphBuilder, { keys, values }: PrefixValues, { layers }: PrefixShape): LayerPast[] {
  const ones = Array.from({ length: layers }, () => 1)
  const layerKeys = g.split(g.transpose(keys, [0, 1, 3, 2]), 0, ones)
  const layerValues = g.split(values, 0, ones)
  return layerKeys.map((key, l) => ({ key, value: layerValues[l] as Value }))
}

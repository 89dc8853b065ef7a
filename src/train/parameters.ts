// What is trained: keys and values directly, or a small network that makes them (Li & Liang 2021, section 4.3).
import { ServiceError } from '../errors/errors.ts'
import type { GraphBuilder } from '../graph/builder.ts'
import type { Value } from '../graph/ops.ts'
import type { ModelConfig } from '../model/config.ts'
import type { Model, PrefixPlace } from '../model/model.ts'
import type { LayerPast, PlaceName } from '../model/segments.ts'
import { embeddingParameter, embeddingValues } from './embedding.ts'
import type { PrefixVariant } from './options.ts'

/** Trainables by name, in the order the optimizer walks them. */
export type Parameters = Map<string, Float32Array>

export interface PrefixShape {
  readonly prefixLength: number
  /** Of all places together. */
  readonly layers: number
  /** Where they are put in, one place's layers after the other's. */
  readonly places: readonly PrefixPlace[]
  /** Whether the model has places that it leaves empty. */
  readonly isPartial: boolean
  /** Position of the first token of text. */
  readonly textStart: number
  readonly heads: number
  readonly headDim: number
  /** Hidden width of the reparametrization; 0: none. */
  readonly reparametrization: number
  readonly variant: PrefixVariant
}

/** Before the text of a decoder alone, whose positions it shifts. */
export function prefixShape(
  { layers, heads, headDim }: ModelConfig,
  prefixLength: number,
  reparametrization: number,
  variant: PrefixVariant = 'prefix',
): PrefixShape {
  const places = [{ attachment: 'decoder_self', layers }] as const
  const before = { places, isPartial: false, textStart: prefixLength }
  return { prefixLength, layers, ...before, heads, headDim, reparametrization, variant }
}

/**
 * At some of a model's places, or at all of them; text starts where it does in trainings unless said. Throws
 * `invalid_request` for a place that the model does not have.
 */
export function shapeOn(
  model: Model,
  { prefixLength, reparametrization, variant }: Pick<PrefixShape, 'prefixLength' | 'reparametrization' | 'variant'>,
  attachments: readonly string[] | null,
  textStart = model.textStarts[0] === 'zero' ? 0 : prefixLength,
): PrefixShape {
  if (variant !== 'prefix' && model.places.length > 1) {
    const message = `the training option variant is ${variant}, which needs a model that reads prompt and output as one text; ${model.name} has an encoder`
    throw new ServiceError('invalid_request', message)
  }
  const places = placesOf(model, attachments)
  const layers = places.reduce((sum, place) => sum + place.layers, 0)
  const isPartial = places.length < model.places.length
  const plain = prefixShape(model.config, prefixLength, reparametrization, variant)
  return { ...plain, layers, places, isPartial, textStart }
}

function placesOf({ places, name }: Model, attachments: readonly string[] | null): readonly PrefixPlace[] {
  if (attachments === null) return places
  const known = places.map(({ attachment }): string => attachment)
  const strange = attachments.find((attachment) => !known.includes(attachment))
  if (strange === undefined && attachments.length > 0)
    return places.filter(({ attachment }) => attachments.includes(attachment))
  const what = strange === undefined ? 'names no place' : `has ${strange}`
  const message = `the training option attachments ${what}, the model ${name} has ${known.join(', ')}`
  throw new ServiceError('invalid_request', message)
}

/** The same keys and values as they are once training is over, whatever made them. */
export function foldedShape(shape: PrefixShape): PrefixShape {
  return { ...shape, reparametrization: 0, variant: shape.variant === 'infix' ? 'infix' : 'prefix' }
}

/** Goes before the names of the parameters that make a place's layers: each place has a network of its own. */
export const networkOf = ({ attachment }: Pick<PrefixPlace, 'attachment'>): string =>
  attachment === 'decoder_self' ? '' : `${attachment}.`

/** Direct: keys and values. Embedding: the inputs. Reparametrized: embedding → linear → tanh → linear, for each place. */
export function parameterShapes({
  prefixLength,
  layers,
  places,
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
  return new Map(
    places.flatMap((place): [string, readonly number[]][] => {
      const [name, columns] = [networkOf(place), 2 * place.layers * width]
      return [
        [`${name}embedding`, [prefixLength, width]],
        [`${name}hidden.weight`, [width, hidden]],
        [`${name}hidden.bias`, [hidden]],
        [`${name}output.weight`, [hidden, columns]],
        [`${name}output.bias`, [columns]],
      ]
    }),
  )
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
  const trainables = new Map([...parameterShapes(shape)].map(([name, extents]) => [name, g.input(name, extents)]))
  const of = (name: string): Value => trainables.get(name) as Value
  if (shape.reparametrization === 0) return { trainables, keys: of('keys'), values: of('values') }

  const parts = shape.places.map((place) =>
    networkValues(g, (name) => of(networkOf(place) + name), place.layers, shape),
  )
  const all = (half: 0 | 1): Value =>
    parts.length === 1
      ? parts[0]![half]
      : g.concat(
          parts.map((part) => part[half]),
          0,
        )
  return { trainables, keys: all(0), values: all(1) }
}

/** Keys and values [layers, heads, prefixLength, headDim] of one place. */
function networkValues(
  g: GraphBuilder,
  of: (name: string) => Value,
  layers: number,
  { heads, headDim, prefixLength }: PrefixShape,
): readonly [keys: Value, values: Value] {
  const activation = g.tanh(g.linear(of('embedding'), of('hidden.weight'), of('hidden.bias')))
  const output = g.linear(activation, of('output.weight'), of('output.bias'))
  const apart = g.transpose(g.reshape(output, [prefixLength, layers, 2, heads, headDim]), [2, 1, 3, 0, 4])
  return g.split(apart, 0, [1, 1]).map((half) => g.reshape(half, [layers, heads, prefixLength, headDim])) as [
    Value,
    Value,
  ]
}

/** The prefix as the past of each layer of each place, one for all rows of the batch. */
export function prefixPasts(
  g: GraphBuilder,
  { keys, values }: PrefixValues,
  { layers, places }: PrefixShape,
): ReadonlyMap<PlaceName, readonly LayerPast[]> {
  const ones = Array.from({ length: layers }, () => 1)
  const layerKeys = g.split(g.transpose(keys, [0, 1, 3, 2]), 0, ones)
  const layerValues = g.split(values, 0, ones)
  const all = layerKeys.map((key, l) => ({ key, value: layerValues[l] as Value }))
  let from = 0
  return new Map(places.map((place) => [place.attachment, all.slice(from, (from += place.layers))]))
}

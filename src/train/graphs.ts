// The graphs of training: loss with gradients, loss alone, and the fold from parameters to keys and values.
import assert from 'node:assert/strict'
import { GraphBuilder } from '../graph/builder.ts'
import { gradient } from '../graph/gradient.ts'
import { makeGraph, type Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import type { Model } from '../model/model.ts'
import type { DecoderSegment, Past, PlaceName } from '../model/segments.ts'
import { dropOut } from './dropout.ts'
import { emptyLayers, segmentOver } from './layers.ts'
import { foldedShape, prefixPasts, prefixValues } from './parameters.ts'
import type { PrefixShape, PrefixValues } from './parameters.ts'

/** Output name of the gradient of a parameter. */
export const gradientOf = (parameter: string): string => `gradient.${parameter}`

export interface TrainingGraphOptions {
  /** Of the labels. */
  readonly smoothing?: number
  /** Whether the masks of `dropoutFeeds` are inputs. */
  readonly dropout?: boolean
  /** Whether sources come as the encoder left them, `source.hidden` (`SourceMemory`), and not as tokens. */
  readonly encoded?: boolean
}

/** One training among those that share a step. */
export interface GraphMember {
  readonly shape: PrefixShape
  readonly dropout: boolean
  /** As in `TrainingGraphOptions`. */
  readonly encoded: boolean
}

/** Goes before the names of a member's own inputs and outputs; a member alone needs none. */
export const scopeOf = (member: number, members: number): string => (members === 1 ? '' : `${member}.`)

/**
 * Inputs: see `batchFeeds` and `parameterFeeds`, and `dropoutFeeds` where there is dropout. Outputs: the loss of each target
 * token [R], and all gradients.
 */
export function trainingGraph(
  model: Pick<Model, 'decoder' | 'places'>,
  shape: PrefixShape,
  { smoothing = 0, dropout = false, encoded = false }: TrainingGraphOptions = {},
): Graph {
  return sharedTrainingGraph(model, [{ shape, dropout, encoded }], smoothing)
}

/**
 * The same for several trainings at once. Each has inputs and gradients of its own, named by `scopeOf`, but for `rows`, `labels`
 * and `lossWeights`: those follow each other, and rows are counted over the positions of all members. Whatever treats a row
 * alone is done for all rows together, and attention for each member apart, so no member's numbers enter another's.
 */
export function sharedTrainingGraph(
  model: Pick<Model, 'decoder' | 'places'>,
  members: readonly GraphMember[],
  smoothing: number,
): Graph {
  const g = new GraphBuilder()
  const parts = members.map(({ shape, dropout, encoded }, m) => {
    const scope = scopeOf(m, members.length)
    const own = new GraphBuilder(scope)
    const prefix = prefixValues(own, model, shape)
    const values = dropout ? dropOut(own, prefix, shape) : prefix
    const segment = segmentOf(own, { scope, model, shape, encoded }, values)
    return { scope, segment, trainables: prefix.trainables }
  })
  const segments = parts.map(({ segment }) => segment)
  const tokenLosses = lossesOf(g, model, segments, smoothing)
  const loss = g.sumTo(g.mul(tokenLosses, g.input('lossWeights', ['R'])), [])
  const names = parts.flatMap(({ scope, trainables }) => [...trainables.keys()].map((name) => scope + gradientOf(name)))
  const targets = parts.flatMap(({ trainables }) => [...trainables.values()])
  const gradients = gradient(g, loss, targets)
  return makeGraph({ tokenLosses, ...Object.fromEntries(names.map((name, i) => [name, gradients[i] as Value])) })
}

/** The same without gradients, over finished keys and values. */
export function evaluationGraph(
  model: Pick<Model, 'decoder' | 'places'>,
  shape: PrefixShape,
  { encoded = false }: Pick<TrainingGraphOptions, 'encoded'> = {},
): Graph {
  const g = new GraphBuilder()
  const folded = foldedShape(shape)
  const segment = segmentOf(g, { scope: '', model, shape: folded, encoded }, prefixValues(g, model, folded))
  return makeGraph({ tokenLosses: lossesOf(g, model, [segment], 0) })
}

/** Parameters in, `folded.keys` and `folded.values` out: what is kept of network or embeddings. */
export function foldGraph(model: Pick<Model, 'decoder' | 'places'>, shape: PrefixShape): Graph {
  const { keys, values } = prefixValues(new GraphBuilder(), model, shape)
  return makeGraph({ 'folded.keys': keys, 'folded.values': values })
}

/** The encoder over some sources without a prefix. Inputs: as the source's of `trainingGraph`, and noLengths [1]. Output: hidden, [B, S, width]. */
export function encoderGraph({ name, encoder, places, config }: Model): Graph {
  assert.ok(encoder !== null, `${name} has no encoder`)
  const g = new GraphBuilder()
  const layers = places.find(({ attachment }) => attachment === 'encoder_self')?.layers ?? 0
  const past = { layers: emptyLayers(g, layers, config), lengths: g.input('noLengths', [1], 'int32') }
  return makeGraph({ hidden: encoder(g, { ...sourceInputs(g, 'B', 'S'), past }) })
}

/** A batch and the prefix it is read with. */
function segmentOf(
  g: GraphBuilder,
  {
    scope,
    model: { places },
    shape,
    encoded,
  }: {
    readonly scope: string
    readonly model: Pick<Model, 'places'>
    readonly shape: PrefixShape
    readonly encoded: boolean
  },
  prefix: PrefixValues,
): DecoderSegment {
  const [batch, length, sourceLength] = [`${scope}B`, `${scope}T`, `${scope}S`]
  const given = prefixPasts(g, prefix, shape)
  const lengths = g.input('pastLengths', shape.variant === 'infix' ? [batch, length] : [1], 'int32')
  // Where a model takes a prefix and this one has none, there is nothing to be seen.
  const none = shape.isPartial ? [g.input('noLengths', [1], 'int32')] : []
  const pasts = new Map(
    places.map(({ attachment, layers }): [PlaceName, Past] => {
      const own = given.get(attachment)
      if (own !== undefined) return [attachment, { layers: own, lengths }]
      return [attachment, { layers: emptyLayers(g, layers, shape), lengths: none[0] as Value }]
    }),
  )
  return segmentOver(pasts, tokenInputs(g, '', batch, length), () =>
    encoded
      ? {
          hidden: g.input('source.hidden', [batch, sourceLength, shape.heads * shape.headDim]),
          lengths: g.input('source.lengths', [batch], 'int32'),
        }
      : sourceInputs(g, batch, sourceLength),
  )
}

const tokenInputs = (g: GraphBuilder, name: string, batch: string, dim: string) => ({
  tokens: g.input(`${name}tokens`, [batch, dim], 'int32'),
  positions: g.input(`${name}positions`, [batch, dim], 'int32'),
})

const sourceInputs = (g: GraphBuilder, batch: string, dim: string) => ({
  ...tokenInputs(g, 'source.', batch, dim),
  lengths: g.input('source.lengths', [batch], 'int32'),
})

/** −log p of each target token, [R]; smoothed. */
function lossesOf(
  g: GraphBuilder,
  model: Pick<Model, 'decoder' | 'places'>,
  segments: readonly DecoderSegment[],
  smoothing: number,
): Value {
  const { hidden, table, bias } = model.decoder(g, { segments, rows: g.input('rows', ['R'], 'int32') })
  const labels = g.input('labels', ['R'], 'int32')
  return g.crossEntropy(bias === null ? [hidden, table, labels] : [hidden, table, labels, bias], smoothing)
}

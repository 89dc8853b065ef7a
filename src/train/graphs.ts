// The graphs of training: loss with gradients, loss alone, and the fold from parameters to keys and values.
import { GraphBuilder } from '../graph/builder.ts'
import { gradient } from '../graph/gradient.ts'
import { makeGraph, type Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import type { DecoderSegment } from '../model/gpt2.ts'
import type { Model } from '../model/model.ts'
import { dropOut } from './dropout.ts'
import { foldedShape, prefixPast, prefixValues, type PrefixShape, type PrefixValues } from './parameters.ts'

/** Output name of the gradient of a parameter. */
export const gradientOf = (parameter: string): string => `gradient.${parameter}`

export interface TrainingGraphOptions {
  /** Of the labels. */
  readonly smoothing?: number
  /** Whether the masks of `dropoutFeeds` are inputs. */
  readonly dropout?: boolean
}

/** One training among those that share a step. */
export interface GraphMember {
  readonly shape: PrefixShape
  readonly dropout: boolean
}

/** Goes before the names of a member's own inputs and outputs; a member alone needs none. */
export const scopeOf = (member: number, members: number): string => (members === 1 ? '' : `${member}.`)

/**
 * Inputs: see `batchFeeds` and `parameterFeeds`, and `dropoutFeeds` where there is dropout. Outputs: the loss of each target
 * token [R], and all gradients.
 */
export function trainingGraph(
  model: Pick<Model, 'decoder'>,
  shape: PrefixShape,
  { smoothing = 0, dropout = false }: TrainingGraphOptions = {},
): Graph {
  return sharedTrainingGraph(model, [{ shape, dropout }], smoothing)
}

/**
 * The same for several trainings at once. Each has inputs and gradients of its own, named by `scopeOf`, but for `rows`, `labels`
 * and `lossWeights`: those follow each other, and rows are counted over the positions of all members. Whatever treats a row
 * alone is done for all rows together, and attention for each member apart, so no member's numbers enter another's.
 */
export function sharedTrainingGraph(
  model: Pick<Model, 'decoder'>,
  members: readonly GraphMember[],
  smoothing: number,
): Graph {
  const g = new GraphBuilder()
  const parts = members.map(({ shape, dropout }, m) => {
    const scope = scopeOf(m, members.length)
    const own = new GraphBuilder(scope)
    const prefix = prefixValues(own, model, shape)
    const segment = segmentOf(own, scope, shape, dropout ? dropOut(own, prefix, shape) : prefix)
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
export function evaluationGraph(model: Pick<Model, 'decoder'>, shape: PrefixShape): Graph {
  const g = new GraphBuilder()
  const folded = foldedShape(shape)
  const segment = segmentOf(g, '', folded, prefixValues(g, model, folded))
  return makeGraph({ tokenLosses: lossesOf(g, model, [segment], 0) })
}

/** Parameters in, `folded.keys` and `folded.values` out: what is kept of network or embeddings. */
export function foldGraph(model: Pick<Model, 'decoder'>, shape: PrefixShape): Graph {
  const { keys, values } = prefixValues(new GraphBuilder(), model, shape)
  return makeGraph({ 'folded.keys': keys, 'folded.values': values })
}

/** A batch and the prefix it is read with. */
function segmentOf(g: GraphBuilder, scope: string, shape: PrefixShape, prefix: PrefixValues): DecoderSegment {
  const [batch, length] = [`${scope}B`, `${scope}T`]
  return {
    tokens: g.input('tokens', [batch, length], 'int32'),
    positions: g.input('positions', [batch, length], 'int32'),
    pastLengths: g.input('pastLengths', shape.variant === 'infix' ? [batch, length] : [1], 'int32'),
    past: prefixPast(g, prefix, shape),
  }
}

/** −log p of each target token, [R]; smoothed. */
function lossesOf(
  g: GraphBuilder,
  model: Pick<Model, 'decoder'>,
  segments: readonly DecoderSegment[],
  smoothing: number,
): Value {
  const { hidden, table } = model.decoder(g, { segments, rows: g.input('rows', ['R'], 'int32') })
  return g.crossEntropy(hidden, table, g.input('labels', ['R'], 'int32'), smoothing)
}

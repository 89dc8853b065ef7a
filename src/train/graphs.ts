// The graphs of training: loss with gradients, loss alone, and the fold from parameters to keys and values.
import { GraphBuilder } from '../graph/builder.ts'
import { gradient } from '../graph/gradient.ts'
import { makeGraph, type Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
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

/**
 * Inputs: see `batchFeeds` and `parameterFeeds`, and `dropoutFeeds` where there is dropout. Outputs: the loss of each target
 * token [R], and all gradients.
 */
export function trainingGraph(
  model: Pick<Model, 'decoder'>,
  shape: PrefixShape,
  { smoothing = 0, dropout = false }: TrainingGraphOptions = {},
): Graph {
  const g = new GraphBuilder()
  const prefix = prefixValues(g, model, shape)
  const tokenLosses = lossesOf(g, model, shape, dropout ? dropOut(g, prefix, shape) : prefix, smoothing)
  const loss = g.sumTo(g.mul(tokenLosses, g.input('lossWeights', ['R'])), [])
  const names = [...prefix.trainables.keys()]
  const gradients = gradient(g, loss, [...prefix.trainables.values()])
  return makeGraph({
    tokenLosses,
    ...Object.fromEntries(names.map((name, i) => [gradientOf(name), gradients[i] as Value])),
  })
}

/** The same without gradients, over finished keys and values. */
export function evaluationGraph(model: Pick<Model, 'decoder'>, shape: PrefixShape): Graph {
  const g = new GraphBuilder()
  const folded = foldedShape(shape)
  return makeGraph({ tokenLosses: lossesOf(g, model, folded, prefixValues(g, model, folded), 0) })
}

/** Parameters in, `folded.keys` and `folded.values` out: what is kept of network or embeddings. */
export function foldGraph(model: Pick<Model, 'decoder'>, shape: PrefixShape): Graph {
  const { keys, values } = prefixValues(new GraphBuilder(), model, shape)
  return makeGraph({ 'folded.keys': keys, 'folded.values': values })
}

/** −log p of each target token, [R]; smoothed. */
function lossesOf(
  g: GraphBuilder,
  model: Pick<Model, 'decoder'>,
  shape: PrefixShape,
  prefix: PrefixValues,
  smoothing: number,
): Value {
  const segment = {
    tokens: g.input('tokens', ['B', 'T'], 'int32'),
    positions: g.input('positions', ['B', 'T'], 'int32'),
    pastLengths: g.input('pastLengths', shape.variant === 'infix' ? ['B', 'T'] : [1], 'int32'),
    past: prefixPast(g, prefix, shape),
  }
  const { hidden, table } = model.decoder(g, { segments: [segment], rows: g.input('rows', ['R'], 'int32') })
  return g.crossEntropy(hidden, table, g.input('labels', ['R'], 'int32'), smoothing)
}

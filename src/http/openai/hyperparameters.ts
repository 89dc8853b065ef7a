// The options of a training under the names that OpenAI's style gives them, each of them "auto" where it is left to the service.
import { Type, type TSchema } from 'typebox'
import { reparametrizationDefault, usualRate } from '../../train/plan.ts'
import { trainingDefaults, type TrainingOptions } from '../../train/options.ts'
import type { HttpParts } from '../parts.ts'
import { Training } from '../schemas/training.ts'
import { withoutDefaulted } from '../schemas/shared.ts'
import { invalidFields } from '../validation.ts'

type Option = keyof TrainingOptions

/** `prefixLength` is `prefix_length`; theirs for passes over the examples is `n_epochs`. */
export function hyperparameterOf(option: string): string {
  if (option === 'epochs') return 'n_epochs'
  return option.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`)
}

/** It has a field of its own beside them. */
const options = (Object.keys(Training.properties) as Option[]).filter((option) => option !== 'seed')

/** The same limits, and the word "auto". */
function orAuto(schema: TSchema): TSchema {
  const { type, enum: words, pattern } = schema as { type?: unknown; enum?: readonly unknown[]; pattern?: string }
  const isText = [type].flat().includes('string')
  return {
    ...schema,
    ...(words !== undefined && { enum: [...words, 'auto'] }),
    // A number has no pattern, and a text has no least or largest value: each limit finds its own.
    ...(words === undefined && { pattern: isText && pattern !== undefined ? `^auto$|${pattern}` : '^auto$' }),
    type: isText ? type : [type, 'string'].flat(),
    default: 'auto',
  }
}

const multiplierSchema = {
  learning_rate_multiplier: orAuto(
    Type.Number({
      exclusiveMinimum: 0,
      maximum: 1_000,
      description: "Times the rate that a rule gives for the model's width; beside it no `learning_rate` is taken.",
    }),
  ),
}

const properties = Object.fromEntries(
  options.map((option) => [hyperparameterOf(option), orAuto(Training.properties[option])] as const),
)

/** Of `method.prefix`. */
export const PrefixHyperparameters = withoutDefaulted({ ...properties, ...multiplierSchema }, { default: {} })

/** Of `method.supervised`, and of a request in the older form: those that OpenAI has. */
export const CommonHyperparameters = withoutDefaulted(
  {
    n_epochs: properties['n_epochs'] as TSchema,
    batch_size: properties['batch_size'] as TSchema,
    ...multiplierSchema,
  },
  { default: {} },
)

/** As they come through the schema. */
export type Hyperparameters = Readonly<Record<string, unknown>>

export interface AskedOptions {
  readonly options: TrainingOptions
  /** null: it is left to the service. */
  readonly learningRateMultiplier: number | null
}

/** `where` names the fields in what is refused; `isStarted`: the training goes on from a prefix. */
export function readHyperparameters(
  asked: Hyperparameters,
  { seed, where, isStarted }: { readonly seed: number | null; readonly where: string; readonly isStarted: boolean },
  model: Pick<HttpParts['model'], 'heads' | 'headDim'>,
): AskedOptions {
  const given: Record<string, unknown> = {}
  for (const option of options) {
    const value = asked[hyperparameterOf(option)]
    if (value !== undefined && value !== null && value !== 'auto') given[option] = value
  }
  const chosen = { ...trainingDefaults, seed: seed ?? trainingDefaults.seed, ...given } as TrainingOptions
  const multiplier = asked['learning_rate_multiplier']
  if (typeof multiplier !== 'number') return { options: chosen, learningRateMultiplier: null }
  if (chosen.learningRate !== null) {
    const pointer = `${where}/learning_rate_multiplier`
    throw invalidFields([{ pointer, expected: '"auto" beside a learning_rate', received: String(multiplier) }])
  }
  // The rate of a direct prefix is another than that of a network: which it is must be settled with the rate.
  const isDirect = isStarted || chosen.variant === 'embedding'
  const reparametrization = chosen.reparametrization ?? (isDirect ? 0 : reparametrizationDefault)
  const learningRate = multiplier * usualRate(model.heads * model.headDim, reparametrization)
  return { options: { ...chosen, reparametrization, learningRate }, learningRateMultiplier: multiplier }
}

/** Of a prefix's record: as asked until it is ready, as used from then on; what is not chosen yet is "auto". */
export function toHyperparameters(
  training: Readonly<Record<string, unknown>>,
  multiplier: number | null,
): Hyperparameters {
  const entries = options.map((option) => [hyperparameterOf(option), training[option] ?? 'auto'] as const)
  return { ...Object.fromEntries(entries), learning_rate_multiplier: multiplier ?? 'auto' }
}

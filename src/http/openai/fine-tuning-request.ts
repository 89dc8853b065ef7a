// From a fine-tuning job as OpenAI's clients ask for it to a training as POST /prefixes takes it.
import { ServiceError } from '../../errors/errors.ts'
import type { Example } from '../../prefix/example.ts'
import type { FineTuningRequest } from '../../prefix/record.ts'
import type { HttpParts } from '../parts.ts'
import type { TrainBody } from '../schemas/prefixes.ts'
import { type FieldError, invalidFields } from '../validation.ts'
import type { FineTuningBody } from './fine-tuning-schemas.ts'
import { hyperparameterOf, type Hyperparameters, readHyperparameters } from './hyperparameters.ts'
import { findModel, modelIdOf } from './models.ts'

export interface AskedTraining {
  readonly body: TrainBody
  readonly kept: FineTuningRequest
}

const validationSplitDefault = 0.1

/** Throws `prefix_not_found`, `prefix_not_ready`, `dataset_not_found` or `invalid_request`, each naming its field. */
export async function readFineTuning(body: FineTuningBody, parts: HttpParts): Promise<AskedTraining> {
  const { asked, where, template, validationSplit } = methodOf(body)
  const source = await findModel(body.model, parts)
  const { options, learningRateMultiplier } = readHyperparameters(
    asked,
    { seed: body.seed, where, isStarted: source !== null },
    parts.model,
  )
  const dataset = await datasetOf('training_file', body.training_file, parts)
  const validation = body.validation_file === null ? validationSplit : await heldOutOf(body.validation_file, parts)
  return {
    body: {
      name: body.suffix,
      dataset,
      from: source?.id ?? null,
      ...(template !== null && { template }),
      validation,
      training: options,
    },
    kept: {
      model: source === null ? parts.model.name : modelIdOf(source),
      trainingFile: body.training_file,
      validationFile: body.validation_file,
      learningRateMultiplier,
      metadata: body.metadata,
    },
  }
}

interface AskedMethod {
  readonly asked: Hyperparameters
  /** JSON pointer to them. */
  readonly where: string
  readonly template: string | null
  readonly validationSplit: number
}

/** Options stand in one place: `method.prefix`, `method.supervised`, or `hyperparameters` where there is no method. */
function methodOf({ method, hyperparameters }: FineTuningBody): AskedMethod {
  const plain = { template: null, validationSplit: validationSplitDefault }
  if (method === null) return { asked: hyperparameters ?? {}, where: '/hyperparameters', ...plain }
  const { type, prefix, supervised } = method
  const errors: FieldError[] = []
  const other = type === 'prefix' ? 'supervised' : 'prefix'
  if (method[other] !== undefined) {
    const expected = `nothing, as the type is "${type}"`
    errors.push({ pointer: `/method/${other}`, expected, received: 'an object' })
  }
  if (hyperparameters !== null) {
    errors.push({ pointer: '/hyperparameters', expected: 'nothing beside a method', received: 'an object' })
  }
  if (errors.length > 0) throw invalidFields(errors)
  const asked: Hyperparameters = (type === 'prefix' ? prefix : supervised)?.hyperparameters ?? {}
  const where = `/method/${type}/hyperparameters`
  if (prefix === undefined) return { asked, where, ...plain }
  return { asked, where, template: prefix.template, validationSplit: prefix.validation_split }
}

/** Files and datasets alike: what one interface has stored the other can train on. */
async function datasetOf(
  param: 'training_file' | 'validation_file',
  id: string,
  { files }: HttpParts,
): Promise<string> {
  if (id.startsWith('ds_')) return id
  return named(param, async () => (await files.get(id)).datasetId)
}

async function heldOutOf(id: string, parts: HttpParts): Promise<Example[]> {
  const dataset = await datasetOf('validation_file', id, parts)
  return named('validation_file', () => parts.datasets.get(dataset))
}

async function named<T>(param: string, read: () => Promise<T>): Promise<T> {
  try {
    return await read()
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error
    throw new ServiceError(error.code, error.message, { ...error.details, param }, { cause: error })
  }
}

/** The fields of POST /prefixes that a refusal names, under the names that they have here. */
export function renamePointers(error: unknown, body: FineTuningBody): unknown {
  if (!(error instanceof ServiceError)) return error
  if (error.code === 'dataset_not_found' && error.details['param'] === undefined) {
    return new ServiceError(error.code, error.message, { ...error.details, param: 'training_file' }, { cause: error })
  }
  const { errors } = error.details
  if (error.code !== 'invalid_request' || !Array.isArray(errors)) return error
  const place = body.method === null ? '' : `/method/${body.method.type}`
  return invalidFields(
    (errors as FieldError[]).map(({ pointer, ...rest }) => {
      const [, option] = /^\/training\/(\w+)$/.exec(pointer) ?? []
      const here = option === undefined ? pointer : `/hyperparameters/${hyperparameterOf(option)}`
      return { pointer: here === '/name' ? '/suffix' : place + here, ...rest }
    }),
  )
}

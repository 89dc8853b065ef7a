// Evaluations of a prefix: put in line, and looked at.
import type { FastifyPluginAsyncTypebox } from '@fastify/type-provider-typebox'
import { ServiceError } from '../../errors/errors.ts'
import { createJobId, type EvaluateJobData } from '../../jobs/job.ts'
import { checkExamples, listedMax } from '../../prefix/datasets.ts'
import type { Example } from '../../prefix/example.ts'
import { groupByInput } from '../../prefix/references.ts'
import { checkDecoding, toDecoding } from '../decoding.ts'
import type { HttpParts } from '../parts.ts'
import type { Observations } from '../request-log.ts'
import {
  AcceptedEvaluation,
  EvaluateBody,
  evaluatedInputsMax,
  type EvaluateItem,
  EvaluationList,
  toAnswer,
} from '../schemas/evaluations.ts'
import { PrefixParams } from '../schemas/prefixes.ts'
import { problems } from '../schemas/shared.ts'
import { type FieldError, invalidFields } from '../validation.ts'

export function evaluationRoutes(parts: HttpParts, observations: Observations): FastifyPluginAsyncTypebox {
  const { registry, evaluations } = parts
  return async (app) => {
    app.post(
      '/prefixes/:idOrName/evaluations',
      {
        schema: {
          operationId: 'evaluatePrefix',
          summary: 'Evaluate a prefix',
          description: 'Answers once the evaluation is in line; the job named in Location tells how it goes.',
          tags: ['prefixes'],
          params: PrefixParams,
          body: EvaluateBody,
          response: {
            202: {
              description: 'The evaluation is in line.',
              headers: { location: { type: 'string', description: 'The job.' } },
              content: { 'application/json': { schema: AcceptedEvaluation } },
            },
            ...problems(400, 404, 409, 413, 415, 422, 503, 507),
          },
        },
      },
      async (request, reply) => {
        const { params, body } = request
        const accepted = await startEvaluation(params.idOrName, body, parts, observations.traceOf(request))
        return reply.code(202).header('location', `/jobs/${accepted.jobId}`).send(accepted)
      },
    )

    app.get(
      '/prefixes/:idOrName/evaluations',
      {
        schema: {
          operationId: 'listEvaluations',
          summary: 'List the last evaluations of a prefix, the newest first',
          tags: ['prefixes'],
          params: PrefixParams,
          response: { 200: EvaluationList, ...problems(404, 503) },
        },
      },
      async ({ params }) => {
        const { id } = await registry.find(params.idOrName)
        return { data: (await evaluations.list(id)).map(toAnswer) }
      },
    )
  }
}

async function startEvaluation(
  idOrName: string,
  body: EvaluateBody,
  { registry, datasets, queue }: HttpParts,
  trace: Pick<EvaluateJobData, 'traceparent'>,
) {
  const { maxNewTokens, seed, baselines } = body
  checkFields(body)
  const { id: prefixId } = await registry.findReady(idOrName)
  const examples = body.examples === undefined ? await datasets.get(body.dataset ?? '') : toExamples(body.examples)
  const { length } = groupByInput(examples)
  if (length > evaluatedInputsMax) {
    const message = `there are ${length} inputs, an evaluation takes at most ${evaluatedInputsMax}`
    throw new ServiceError('examples_invalid', message, { inputs: length, inputsMax: evaluatedInputsMax })
  }
  const datasetId = (await datasets.put(examples)).id
  const jobId = createJobId()
  const decoding = toDecoding(body.decoding)
  const asked = { prefixId, datasetId, maxNewTokens, decoding, seed, baselines }
  await queue.enqueue(jobId, { type: 'evaluate', ...asked, ...trace })
  return { jobId, prefixId }
}

function checkFields({ examples, dataset, decoding }: EvaluateBody): void {
  const errors: FieldError[] = checkDecoding(decoding)
  if ((examples === undefined) === (dataset === undefined)) {
    const received = examples === undefined ? 'neither' : 'both'
    errors.push({ pointer: '', expected: 'either examples or dataset', received })
  }
  if (decoding.n !== 1) {
    errors.push({
      pointer: '/decoding/n',
      expected: '1, as one text of each input is scored',
      received: `${decoding.n}`,
    })
  }
  for (const [index, { output, outputs }] of (examples ?? []).entries()) {
    if ((output === undefined) !== (outputs === undefined)) continue
    const received = output === undefined ? 'neither' : 'both'
    errors.push({ pointer: `/examples/${index}`, expected: 'either output or outputs', received })
  }
  if (errors.length > 0) throw invalidFields(errors)
}

/** An example for each reference. Throws `examples_invalid`, listing every bad item by its index. */
function toExamples(items: readonly EvaluateItem[]): readonly Example[] {
  // None at all is refused here.
  if (items.length === 0) return checkExamples([])
  const examples: Example[] = []
  const errors: { index: number; reason: unknown }[] = []
  for (const [index, { input, output, outputs = [output] }] of items.entries()) {
    try {
      examples.push(...checkExamples(outputs.map((reference) => ({ input, output: reference }))))
    } catch (error) {
      if (!(error instanceof ServiceError) || !Array.isArray(error.details['errors'])) throw error
      const [first] = error.details['errors'] as readonly { readonly reason: unknown }[]
      errors.push({ index, reason: first?.reason })
    }
  }
  const [first] = errors
  if (first === undefined) return examples
  const message = `${errors.length} of ${items.length} examples are not valid; the first, index ${first.index}: ${String(first.reason)}`
  throw new ServiceError('examples_invalid', message, { errors: errors.slice(0, listedMax), total: errors.length })
}

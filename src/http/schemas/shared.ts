// The means by which schemas are declared once, and the schemas that every route shares.
import type { FastifyInstance } from 'fastify'
import { Type, type Static, type TObject, type TProperties, type TSchema, type TUnsafe } from 'typebox'
import { pageLengthDefault, pageLengthMax } from './limits.ts'

const named: TSchema[] = []

/** A schema with a name of its own in openapi.yaml; routes use the reference that is returned. */
function name<T extends TSchema>(id: string, schema: T): TUnsafe<Static<T>> {
  named.push({ ...schema, $id: id })
  return Type.Unsafe<Static<T>>({ $ref: `${id}#` })
}

/** What a client sends: no field but these, and those that have a default may be left out. */
export function requestBody<P extends TProperties>(id: string, properties: P, options: object = {}) {
  return name(id, withoutDefaulted(properties, options))
}

/** The same as a part of a body. */
export function withoutDefaulted<P extends TProperties>(properties: P, options: object = {}): TObject<P> {
  const { required: all, ...schema } = Type.Object(properties, { additionalProperties: false, ...options })
  const required = ((all ?? []) as readonly string[]).filter((field) => !('default' in (properties[field] ?? {})))
  // TypeBox would call them optional in the type too, but after validation they are there.
  return { ...schema, ...(required.length > 0 && { required }) } as unknown as TObject<P>
}

/** What the service answers. */
export function answer<P extends TProperties>(id: string, description: string, properties: P, options: object = {}) {
  return name(id, Type.Object(properties, { additionalProperties: false, description, ...options }))
}

/** `type: [x, null]` and not a union: a union's errors name every branch. */
export function Nullable<T extends TSchema>(schema: T & { type?: unknown }, options: object = {}) {
  return Type.Unsafe<Static<T> | null>({ ...schema, type: [schema.type, 'null'], ...options })
}

/** One of a few words. */
export function Word<const T extends string>(words: readonly T[], options: object = {}) {
  return Type.Unsafe<T>({ type: 'string', enum: words, ...options })
}

/** An object of any fields. */
export function Anything(options: object = {}) {
  return Type.Unsafe<Record<string, unknown>>({ type: 'object', additionalProperties: true, ...options })
}

/** To be called once an app, before its routes. */
export function registerSchemas(app: FastifyInstance): void {
  for (const schema of named) app.addSchema(schema)
}

/** Open, unlike the rest: each code adds members of its own. */
export const ProblemSchema = name(
  'Problem',
  Type.Object(
    {
      type: Type.String({ examples: ['/errors#prefix_not_found'] }),
      title: Type.String(),
      status: Type.Integer(),
      code: Type.String({ description: 'Stable; the words may change. GET /errors lists all.' }),
      detail: Type.String({ description: 'What it was this time, naming both sides.' }),
      instance: Type.String({ description: 'Id of the request, to be found in the log.' }),
      errors: Type.Optional(
        Type.Array(Anything(), {
          description: 'What is wrong, each with where it is, what was expected and what came.',
        }),
      ),
    },
    {
      additionalProperties: true,
      description: 'RFC 9457',
      examples: [
        {
          type: '/errors#prefix_not_found',
          title: 'There is no such prefix',
          status: 404,
          code: 'prefix_not_found',
          detail: 'there is no prefix e2e',
          instance: '5f0c8f2e-7b8e-4f0e-9a43-1d7c2f6a9b11',
        },
      ],
    },
  ),
)

const problemTexts = {
  400: 'The request is not one that this route takes.',
  401: 'No valid API key came with it.',
  404: 'What it names is not there.',
  409: 'It does not go with the present state of what it names.',
  413: 'The body is too large.',
  415: 'The body has another media type.',
  422: 'It was understood and cannot be done.',
  500: 'The service or its model failed.',
  503: 'Try again after the time in Retry-After.',
  504: 'It was not done by the deadline that the request named.',
  507: 'The object store is full.',
} as const

type ProblemStatus = keyof typeof problemTexts

/** The responses of a route that are problems: those given, and those any route may answer. */
export function problems(...statuses: readonly ProblemStatus[]) {
  const all = [...new Set<ProblemStatus>([...statuses, 500])].sort((a, b) => a - b)
  const response = (status: ProblemStatus) => ({
    description: problemTexts[status],
    content: { 'application/problem+json': { schema: ProblemSchema } },
  })
  return Object.fromEntries(all.map((status) => [status, response(status)])) as Record<
    ProblemStatus,
    ReturnType<typeof response>
  >
}

export const pageQuery = {
  limit: Type.Integer({
    minimum: 1,
    maximum: pageLengthMax,
    default: pageLengthDefault,
    description: 'Length of the page.',
  }),
  cursor: Type.Optional(Type.String({ maxLength: 200, description: 'The `next` of the page before.' })),
}

export const Next = Nullable(Type.String(), { description: 'Cursor of the next page; null: this is the last.' })

export const JobError = Nullable(
  Type.Object({ code: Type.String(), detail: Type.String() }, { additionalProperties: false }),
  { description: 'Why it failed: a code of GET /errors, and words.' },
)

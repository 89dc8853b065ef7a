// The description of the interface: openapi.yaml and the pages at /docs, both read from the routes.
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance } from 'fastify'

const description = `Trains prefixes (a few keys and values per layer of a frozen language model) from examples, and
generates text with any of them, mixed in one batch. Errors are problem documents (RFC 9457) with a stable \`code\`.`

const tags = [
  { name: 'prefixes', description: 'Train, look at, fetch, import and delete prefixes.' },
  { name: 'datasets', description: 'Examples that are stored once and used by many trainings.' },
  { name: 'generate', description: 'Text from the frozen model, with or without a prefix.' },
  { name: 'jobs', description: 'Trainings and evaluations that wait, run or have ended.' },
  { name: 'openai', description: "OpenAI's interface over the same prefixes: its clients work with it unchanged." },
  { name: 'service', description: 'The service itself: is it alive, is it ready, what has it done.' },
]

export function registerDocumentation(app: FastifyInstance, version: string): void {
  void app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: { title: 'Preamble', version, description, license: { name: 'Apache-2.0', identifier: 'Apache-2.0' } },
      servers: [{ url: '/' }],
      tags,
      components: { securitySchemes: { apiKey: { type: 'http', scheme: 'bearer' } } },
    },
    // Shared schemas keep their names.
    refResolver: {
      buildLocalReference: ({ $id }, _base, _fragment, i) => (typeof $id === 'string' ? $id : `def-${i}`),
    },
  })
  void app.register(swaggerUi, { routePrefix: '/docs', staticCSP: true, uiConfig: { docExpansion: 'list' } })
}

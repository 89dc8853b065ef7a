// What turns answers into JSON is compiled once for each schema, whichever route and app asks for it.
import assert from 'node:assert/strict'
import type { RouteOptions } from 'fastify'
import { test } from 'node:test'
import { makeService } from './fakes.ts'

type Compiler = NonNullable<RouteOptions['serializerCompiler']>

/** Of all routes that have one of their own, in the order in which they are declared. */
async function compilersOf(): Promise<Compiler[]> {
  const { app } = makeService()
  const compilers: Compiler[] = []
  app.addHook('onRoute', ({ serializerCompiler }) => {
    if (serializerCompiler !== undefined) compilers.push(serializerCompiler)
  })
  await app.ready()
  return compilers
}

const part = (schema: object) => ({ schema, url: '/', method: 'GET' })
const counted = { type: 'object', properties: { count: { type: 'integer' } } }

test('routes and apps share what serializes the same schema, and nothing else', async () => {
  const routes = [...(await compilersOf()), ...(await compilersOf())]
  assert.ok(routes.length > 40, `${routes.length} routes`)
  const [first, ...others] = routes.map((compile) => compile(part(structuredClone(counted))))
  for (const other of others) assert.equal(other, first)
  assert.equal(first?.({ count: 3, unknown: 4 }), '{"count":3}')
  const [problem, again] = [routes[0], routes.at(-1)].map((compile) => compile?.(part({ $ref: 'Problem#' })))
  assert.notEqual(problem, first)
  assert.equal(problem, again)
  const body = { type: '/errors#a', title: 'b', status: 404, code: 'a', detail: 'c', instance: 'd', more: true }
  assert.deepEqual(JSON.parse(problem?.(body) ?? ''), body)
})

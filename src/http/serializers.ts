// What turns answers into JSON, compiled once for each schema: most routes answer with the same problems.
import assert from 'node:assert/strict'
import type { FastifyInstance, RouteOptions } from 'fastify'

type Compiler = NonNullable<RouteOptions['serializerCompiler']>
type Serialize = ReturnType<Compiler>
/** Fastify's own compiler, once there is one. */
type Made = () => FastifyInstance['serializerCompiler']

/** By the JSON of the schema. What a schema may refer to is the same in every app (`registerSchemas`). */
const compiled = new Map<string, Serialize>()

/** To be called once an app, before its routes. Fastify would compile every schema again for each route and status. */
export function compileAnswersOnce(app: FastifyInstance): void {
  // Fastify makes its compiler for the first route that has none of its own; all the others ask that one.
  let made: Made | undefined
  app.addHook('onRoute', function (route) {
    if (route.schema?.response === undefined) return
    if (made === undefined) made = () => this.serializerCompiler
    else route.serializerCompiler = compileOnce(made)
  })
}

function compileOnce(made: Made): Compiler {
  return (part) => {
    const key = JSON.stringify(part.schema)
    let serialize = compiled.get(key)
    if (serialize === undefined) {
      const compile = made()
      assert.ok(compile !== undefined, 'the first route of an app is compiled first')
      serialize = compile(part)
      compiled.set(key, serialize)
    }
    return serialize
  }
}

// The committed description of the interface is the one that the routes give.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertGolden } from '../golden.ts'
import { makeService } from './fakes.ts'

interface Operation {
  readonly operationId?: string
  readonly summary?: string
  readonly tags?: readonly string[]
  readonly responses: Readonly<Record<string, { readonly description: string; readonly content?: object }>>
}

test('openapi.yaml says what the routes do', async () => {
  const { app } = makeService()
  await app.ready()
  await assertGolden('openapi.yaml', app.swagger({ yaml: true }))
  await app.close()
})

test('every operation has an id of its own, a summary, a tag, and a description and a schema for every response', async () => {
  const { app } = makeService()
  await app.ready()
  const operations = Object.entries(app.swagger().paths ?? {}).flatMap(([path, methods]) =>
    Object.entries(methods as Record<string, Operation>).map(([method, operation]) => ({ path, method, ...operation })),
  )
  assert.ok(operations.length >= 16)
  for (const { path, method, operationId, summary, tags, responses } of operations) {
    const route = `${method} ${path}`
    assert.ok(operationId !== undefined && summary !== undefined && tags?.length === 1, route)
    for (const [status, { description, content }] of Object.entries(responses)) {
      assert.ok(description !== '' && description !== 'Default Response', `${route} ${status} has no description`)
      assert.equal(content === undefined, status === '204', `${route} ${status} has no schema`)
    }
  }
  assert.equal(new Set(operations.map(({ operationId }) => operationId)).size, operations.length)
  await app.close()
})

test('references of the description lead somewhere', async () => {
  const { app } = makeService()
  await app.ready()
  const document = app.swagger() as { components?: { schemas?: Record<string, unknown> } }
  const names = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)].map(
    ([, name]) => name,
  )
  assert.ok(names.length > 0)
  for (const name of names) assert.ok(document.components?.schemas?.[name ?? ''] !== undefined, `${name} is not there`)
  assert.ok(!JSON.stringify(document).includes('def-'))
  await app.close()
})

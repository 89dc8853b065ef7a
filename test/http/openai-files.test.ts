// /v1/files by the official client: examples in three layouts, kept as a file and as a dataset, and bad lines by their number.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { BadRequestError, NotFoundError, toFile } from 'openai'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { examples } from './fakes.ts'
import { all, type ClientAndService, errorOf, jsonLines, openClient } from './openai-client.ts'

const pairs = examples.map(({ input, output }) => ({ prompt: input, completion: output }))
const conversations = examples.map(({ input, output }) => ({
  messages: [
    { role: 'user', content: input },
    { role: 'assistant', content: output },
  ],
}))

async function upload({ client }: ClientAndService, lines: readonly unknown[] | string, name = 'train.jsonl') {
  const content = typeof lines === 'string' ? lines : jsonLines(lines)
  return client.files.create({ file: await toFile(Buffer.from(content), name), purpose: 'fine-tune' })
}

test('prompts and completions, conversations of one turn and our own layout are the same dataset', async (t) => {
  const service = await openClient(t)
  const datasets = new Set<unknown>()
  for (const lines of [pairs, conversations, examples]) {
    const file = await upload(service, lines)
    assert.match(file.id, /^file-[0-9a-z]{24}$/)
    const { object, bytes, filename, purpose, status } = file
    assert.deepEqual(
      { object, filename, purpose, status },
      {
        object: 'file',
        filename: 'train.jsonl',
        purpose: 'fine-tune',
        status: 'processed',
      },
    )
    assert.equal(bytes, jsonLines(lines).length)
    datasets.add((file as { dataset?: unknown }).dataset)
  }
  const [dataset, ...others] = datasets
  assert.equal(others.length, 0)
  assert.deepEqual(await service.datasets.get(String(dataset)), examples)
})

test('a file is looked at, comes back byte for byte, and is gone when it is deleted, not so its dataset', async (t) => {
  const service = await openClient(t)
  const { client } = service
  const content = `${jsonLines(pairs).replace('{', '{  ')}\n`
  const file = await upload(service, content, 'Übung 1.jsonl')
  assert.deepEqual(await client.files.retrieve(file.id), file)
  assert.equal(file.filename, 'Übung 1.jsonl')
  assert.equal((await client.files.waitForProcessing(file.id)).status, 'processed')
  assert.equal(await (await client.files.content(file.id)).text(), content)
  assert.deepEqual(await client.files.delete(file.id), { id: file.id, object: 'file', deleted: true })
  for (const ask of [
    () => client.files.retrieve(file.id),
    () => client.files.content(file.id),
    () => client.files.delete(file.id),
  ]) {
    const error = await errorOf(ask())
    assert.ok(error instanceof NotFoundError)
    assert.equal(error.code, 'dataset_not_found')
  }
  assert.deepEqual(await all(client.files.list()), [])
  assert.equal((await service.datasets.get((file as unknown as { dataset: string }).dataset)).length, 2)
})

test('files are listed the newest first or the oldest, and the client goes from page to page', async (t) => {
  const service = await openClient(t)
  const ids: string[] = []
  for (let i = 0; i < 5; i++) ids.push((await upload(service, pairs, `${i}.jsonl`)).id)
  const listed = await all(service.client.files.list({ limit: 2, order: 'asc' }))
  assert.deepEqual(
    listed.map(({ id }) => id),
    ids,
  )
  const newest = await all(service.client.files.list({ limit: 2, purpose: 'fine-tune' }))
  assert.deepEqual(
    newest.map(({ id }) => id),
    [...ids].reverse(),
  )
  assert.equal((await all(service.client.files.list({ limit: 10_000 }))).length, 5)
})

test('every bad line is named by its number and what is wrong with it, and nothing is stored', async (t) => {
  const service = await openClient(t)
  const user = { role: 'user', content: 'x' }
  const assistant = { role: 'assistant', content: 'y' }
  const bad: readonly [unknown, RegExp][] = [
    [{ prompt: 'x' }, /^completion is missing$/],
    [{ prompt: '', completion: 'y' }, /^prompt is empty$/],
    [{ prompt: 'x', completion: 7 }, /^completion must be text, not number$/],
    [{ prompt: 'x', completion: 'y', weight: 1 }, /unknown field "weight"/],
    [{ messages: [{ role: 'system', content: 's' }, user, assistant] }, /not \[system, user, assistant\]/],
    [{ messages: [user, { ...assistant, weight: 0 }] }, /unknown field "weight" in messages\[1\]/],
    [{ messages: [user, { role: 'assistant' }] }, /^messages\[1\]\.content must be text, not null$/],
    [{ messages: 'x' }, /must be a list/],
    [{ messages: [null, assistant] }, /not \[no role, assistant\]/],
    [{ messages: [user, assistant], tools: [] }, /unknown field "tools" beside messages/],
    [{ text: 'x' }, /must be one of .*prompt.*messages.*input/],
    [[], /must be an object/],
  ]
  const error = await errorOf(upload(service, [...pairs, ...bad.map(([line]) => line)]))
  assert.ok(error instanceof BadRequestError)
  assert.equal(error.code, 'examples_invalid')
  assert.match(error.message, /12 of 14 examples are not valid; the first, line 3: completion is missing/)
  const { errors } = error.error as { errors: { line: number; reason: string }[] }
  for (const [i, [, reason]] of bad.entries()) {
    assert.equal(errors[i]?.line, i + 3)
    assert.match(errors[i]?.reason ?? '', reason)
  }
  assert.equal((await errorOf(upload(service, '{"prompt": \n'))).code, 'examples_invalid')
  assert.equal((await errorOf(upload(service, '\n\n'))).code, 'examples_invalid')
  assert.deepEqual(await all(service.client.files.list()), [])
})

test('another purpose, another field, no file and one that is too large are refused', async (t) => {
  const service = await openClient(t, { limits: { ...defaultHttpLimits, datasetBytesMax: 1_000 } })
  const { client } = service
  const file = await toFile(Buffer.from(jsonLines(pairs)), 'train.jsonl')
  const purpose = await errorOf(client.files.create({ file, purpose: 'batch' }))
  assert.ok(purpose instanceof BadRequestError)
  assert.equal(purpose.param, 'purpose')
  const expiring = { anchor: 'created_at', seconds: 3_600 } as const
  const expires = await errorOf(client.files.create({ file, purpose: 'fine-tune', expires_after: expiring }))
  assert.match(expires.param ?? '', /^expires_after/)
  const large = await errorOf(upload(service, [{ prompt: 'x', completion: 'y'.repeat(1_000) }]))
  assert.deepEqual([large.status, large.code], [413, 'body_too_large'])
  const form = new FormData()
  form.set('purpose', 'fine-tune')
  const response = await fetch(`${service.address}/v1/files`, { method: 'POST', body: form })
  assert.equal(((await response.json()) as { error: { param: string } }).error.param, 'file')
  assert.equal((await service.app.inject({ method: 'POST', url: '/v1/files', payload: {} })).statusCode, 415)
})

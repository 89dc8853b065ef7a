// Prefixes looked at, listed, fetched, imported and deleted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { encodePrefix } from '../../src/prefix/artifact.ts'
import type { Prefix, PrefixHeader } from '../../src/prefix/prefix.ts'
import { addReadyPrefix, examples, makeJob, makePrefix, makeService, type Service } from './fakes.ts'
import { type Part, upload } from './upload.ts'

function makeArtifact(changes: Partial<PrefixHeader> = {}): Uint8Array {
  const prefix: Prefix = makePrefix()
  return encodePrefix({ ...prefix, header: { ...prefix.header, ...changes } })
}

async function startTraining(service: Service) {
  const response = await service.app.inject({ method: 'POST', url: '/prefixes', payload: { name: 'e2e', examples } })
  return response.json() as { id: string; jobId: string }
}

function idsOf(page: { data: { id: string }[] }): string[] {
  return page.data.map(({ id }) => id)
}

test('a prefix is shown whole, as the registry has it', async () => {
  const service = makeService()
  const record = await addReadyPrefix(service)
  await service.registry.update(record.id, {
    metrics: { bleu: 31.5 },
    samples: [{ input: 'a', reference: 'b', output: 'c' }],
    dataset: { id: 'ds_1', sha256: 'c'.repeat(64), examples: 2 },
    training: { epochs: 5, nested: { loss: [1, 2] } },
    validationLoss: 1.5,
  })
  for (const asked of [record.id, 'e2e', 'e2e@1']) {
    const response = await service.app.inject(`/prefixes/${asked}`)
    assert.equal(response.statusCode, 200)
    assert.deepEqual(response.json(), await service.registry.find('e2e'))
  }
})

test('while a prefix is trained its job tells how far it is', async () => {
  const service = makeService()
  const { id, jobId } = await startTraining(service)
  const progress = {
    step: 30,
    steps: 150,
    loss: 2.5,
    validationLoss: null,
    tokensPerSecond: 9,
    examplesPerSecond: 1,
    etaMs: 8,
  }
  service.queue.jobs.set(jobId, makeJob({ id: jobId, prefixId: id, status: 'running', progress }))
  const { status, step, steps, loss } = (await service.app.inject(`/prefixes/${id}`)).json()
  assert.deepEqual({ status, step, steps, loss }, { status: 'training', step: 30, steps: 150, loss: 2.5 })
  const error = { code: 'training_diverged', detail: 'the loss is not a number' }
  service.queue.jobs.set(jobId, makeJob({ id: jobId, prefixId: id, status: 'failed', error }))
  const failed = (await service.app.inject(`/prefixes/${id}`)).json()
  assert.deepEqual({ status: failed.status, error: failed.error }, { status: 'failed', error })
})

test('a prefix can be looked at while the queue is away', async () => {
  const service = makeService()
  const { id } = await startTraining(service)
  service.queue.fails = new ServiceError('queue_unavailable', 'away')
  const response = await service.app.inject(`/prefixes/${id}`)
  assert.equal(response.statusCode, 200)
  assert.equal(response.json().status, 'queued')
})

test('prefixes are listed a page at a time, the newest first, and by name', async () => {
  const service = makeService()
  const ids = []
  for (const name of ['a', 'b', 'a']) ids.unshift((await addReadyPrefix(service, name)).id)
  const first = (await service.app.inject('/prefixes?limit=2')).json()
  assert.deepEqual(idsOf(first), ids.slice(0, 2))
  const second = (await service.app.inject(`/prefixes?limit=2&cursor=${first.next}`)).json()
  assert.deepEqual({ ids: idsOf(second), next: second.next }, { ids: ids.slice(2), next: null })
  assert.deepEqual(idsOf((await service.app.inject('/prefixes?name=a')).json()), [ids[0], ids[2]])
})

test('a bad query is refused by the name of its parameter', async () => {
  const { app } = makeService()
  for (const [query, pointer] of [
    ['limit=0', '?limit'],
    ['limit=101', '?limit'],
    ['limit=two', '?limit'],
    ['limt=2', '?limt'],
  ]) {
    const response = await app.inject(`/prefixes?${query}`)
    assert.equal(response.statusCode, 400, query)
    assert.equal(response.json().errors[0].pointer, pointer)
  }
  assert.equal((await app.inject('/prefixes?cursor=x')).json().code, 'invalid_request')
})

test('a prefix that is not there is a 404 problem, by whatever it is asked', async () => {
  const { app } = makeService()
  for (const asked of ['e2e', 'e2e@9', `pfx_${'0'.repeat(24)}`, 'No%20Name', '%00', 'a'.repeat(99), '..%2F..%2Fetc']) {
    for (const [method, url] of [
      ['GET', `/prefixes/${asked}`],
      ['GET', `/prefixes/${asked}/artifact`],
      ['DELETE', `/prefixes/${asked}`],
    ] as const) {
      const response = await app.inject({ method, url })
      assert.equal(response.statusCode, 404, `${method} ${url}`)
      assert.equal(response.json().code, 'prefix_not_found')
    }
  }
})

test('the artifact is the file as stored, and can be imported again', async () => {
  const service = makeService()
  const record = await addReadyPrefix(service)
  const response = await service.app.inject('/prefixes/e2e/artifact')
  assert.equal(response.headers['content-type'], 'application/octet-stream')
  assert.equal(response.headers['content-disposition'], 'attachment; filename="e2e-1.safetensors"')
  assert.equal(response.headers['etag'], `"${record.artifactSha256}"`)
  assert.deepEqual(new Uint8Array(response.rawPayload), makeArtifact())
  const imported = await upload(service, [
    { name: 'name', value: 'copy' },
    { name: 'artifact', value: new Uint8Array(response.rawPayload) },
  ])
  assert.equal(imported.statusCode, 201, imported.body)
  const { id, name, version, status, artifactSha256, training } = imported.json()
  assert.equal(imported.headers['location'], `/prefixes/${id}`)
  assert.deepEqual(
    { name, version, status, training },
    { name: 'copy', version: 1, status: 'ready', training: { epochs: 5 } },
  )
  assert.equal(artifactSha256, record.artifactSha256)
})

test('an artifact of a prefix that is not ready is a 409 problem, and of an unknown format a 400', async () => {
  const service = makeService()
  await startTraining(service)
  for (const query of ['', '?format=peft']) {
    const response = await service.app.inject(`/prefixes/e2e/artifact${query}`)
    assert.deepEqual([response.statusCode, response.json().code], [409, 'prefix_not_ready'])
  }
  assert.equal((await service.app.inject('/prefixes/e2e/artifact?format=zip')).statusCode, 400)
})

test('an import may bring a template of its own', async () => {
  const service = makeService()
  const response = await upload(service, [
    { name: 'template', value: 'Q: {input}' },
    { name: 'artifact', value: makeArtifact() },
  ])
  assert.equal(response.statusCode, 201, response.body)
  assert.equal(response.json().template, 'Q: {input}')
  assert.equal((await service.registry.load(response.json().id)).header.template, 'Q: {input}')
})

test('an upload that is broken or belongs elsewhere is refused, and leaves nothing behind', async () => {
  const service = makeService()
  const good = makeArtifact()
  const lying = good.slice()
  new DataView(lying.buffer).setBigUint64(0, 2n ** 60n, true)
  const refused: readonly [number, string, readonly Part[]][] = [
    [422, 'prefix_invalid', [{ name: 'artifact', value: new Uint8Array(0) }]],
    [422, 'prefix_invalid', [{ name: 'artifact', value: new TextEncoder().encode('not safetensors') }]],
    [422, 'prefix_invalid', [{ name: 'artifact', value: good.slice(0, -4) }]],
    [422, 'prefix_invalid', [{ name: 'artifact', value: lying }]],
    [409, 'prefix_model_mismatch', [{ name: 'artifact', value: makeArtifact({ modelSha256: 'f'.repeat(64) }) }]],
    [400, 'invalid_request', [{ name: 'name', value: 'e2e' }]],
    [
      400,
      'invalid_request',
      [
        { name: 'artifact', value: good },
        { name: 'tag', value: 'x' },
      ],
    ],
    [400, 'invalid_request', [{ name: 'artifact', value: 'text, not a file' }]],
    [
      400,
      'invalid_request',
      [
        { name: 'artifact', value: good },
        { name: 'template', value: 'none' },
      ],
    ],
    [
      400,
      'invalid_request',
      [
        { name: 'artifact', value: good },
        { name: 'name', value: 'Bad Name' },
      ],
    ],
  ]
  for (const [status, code, parts] of refused) {
    const response = await upload(service, parts)
    assert.equal(response.json().code, code, response.body)
    assert.equal(response.statusCode, status)
  }
  const mismatch = await upload(service, [{ name: 'artifact', value: makeArtifact({ modelSha256: 'f'.repeat(64) }) }])
  assert.match(mismatch.json().detail, /f{64}.*tiny, a{64}/)
  assert.deepEqual((await service.registry.list({ limit: 10 })).data, [])
})

test('an import must be multipart, whole, and within its limit', async () => {
  const service = makeService({ limits: { ...defaultHttpLimits, artifactBytesMax: 1_000 } })
  const big = await upload(service, [{ name: 'artifact', value: new Uint8Array(1_001) }])
  assert.equal(big.statusCode, 413)
  assert.equal(big.json().code, 'body_too_large')
  const json = await service.app.inject({ method: 'POST', url: '/prefixes/import', payload: { artifact: 'x' } })
  assert.equal(json.json().code, 'unsupported_media_type')
  const headers = { 'content-type': 'multipart/form-data; boundary=x' }
  const payload = '--x\r\ncontent-disposition: form-data; name="artifact"; filename="a"\r\n\r\nabc'
  const cut = await service.app.inject({ method: 'POST', url: '/prefixes/import', headers, payload })
  assert.equal(cut.statusCode, 400)
  assert.equal(cut.json().code, 'invalid_request')
})

test('deleting a prefix takes it away, and its version is not given again', async () => {
  const service = makeService()
  await addReadyPrefix(service)
  const response = await service.app.inject({ method: 'DELETE', url: '/prefixes/e2e' })
  assert.equal(response.statusCode, 204)
  assert.equal(response.body, '')
  assert.equal((await service.app.inject('/prefixes/e2e')).statusCode, 404)
  assert.deepEqual(service.queue.cancelled, [])
  assert.equal((await startTraining(service)).id.length > 0 && (await service.registry.find('e2e')).version, 2)
})

test('deleting a prefix that is trained cancels its job first', async () => {
  const service = makeService()
  const { id, jobId } = await startTraining(service)
  assert.equal((await service.app.inject({ method: 'DELETE', url: `/prefixes/${id}` })).statusCode, 204)
  assert.deepEqual(service.queue.cancelled, [jobId])
  assert.equal((await service.app.inject(`/prefixes/${id}`)).statusCode, 404)
})

test('a training whose job has gone can be deleted; while the queue is away it cannot', async () => {
  const service = makeService()
  const { id } = await startTraining(service)
  service.queue.fails = new ServiceError('queue_unavailable', 'away')
  assert.equal((await service.app.inject({ method: 'DELETE', url: `/prefixes/${id}` })).statusCode, 503)
  assert.equal((await service.registry.find(id)).id, id)
  service.queue.fails = null
  service.queue.jobs.clear()
  assert.equal((await service.app.inject({ method: 'DELETE', url: `/prefixes/${id}` })).statusCode, 204)
})

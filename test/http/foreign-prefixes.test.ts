// Prefixes of other programs over HTTP: PEFT's two files in and out, the paper's checkpoint in.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { unzipSync } from 'fflate'
import { defaultHttpLimits } from '../../src/http/http.ts'
import { decodePrefix } from '../../src/prefix/artifact.ts'
import type { Prefix, PrefixHeader } from '../../src/prefix/prefix.ts'
import { adapterFiles, paperModel, tinyModel } from '../golden/peft.ts'
import { withConfig } from '../prefix/foreign-files.ts'
import { addReadyPrefix, makePrefix, makeService, type Service } from './fakes.ts'
import { type Part, upload } from './upload.ts'

function makeTinyService(): Service {
  return makeService({ model: tinyModel })
}

function peftParts({ config, model } = adapterFiles('float32')): Part[] {
  return [
    { name: 'adapter_config', value: config },
    { name: 'adapter_model', value: model },
  ]
}

async function artifactOf({ app }: Service, id: string): Promise<Prefix> {
  return decodePrefix((await app.inject(`/prefixes/${id}/artifact`)).rawPayload)
}

async function addPrefix({ registry }: Service, changes: Partial<PrefixHeader>) {
  const prefix = makePrefix()
  const header = { ...prefix.header, ...changes }
  const { template, prefixLength, tokenizerSha256, modelSha256: sha256 } = header
  const model = { name: 'tiny', sha256 }
  const asked = { name: null, jobId: null, dataset: null, training: {} }
  const { id } = await registry.create({ ...asked, template, prefixLength, model, tokenizerSha256 })
  return registry.publish(id, { ...prefix, header })
}

test("PEFT's files become a prefix that is ready, and come back as they were", async () => {
  const service = makeTinyService()
  const response = await upload(service, [{ name: 'name', value: 'theirs' }, ...peftParts()])
  assert.equal(response.statusCode, 201, response.body)
  const { id, name, version, status, template, prefixLength, training, model } = response.json()
  assert.equal(response.headers['location'], `/prefixes/${id}`)
  assert.deepEqual(
    { name, version, status, template, prefixLength, model },
    {
      name: 'theirs',
      version: 1,
      status: 'ready',
      template: '{input}',
      prefixLength: 5,
      model: { name: 'tiny', sha256: tinyModel.sha256 },
    },
  )
  const from = { importedFrom: 'peft', baseModelNameOrPath: 'golden/tiny-gpt2', peftVersion: '0.21.2' }
  assert.deepEqual(training, from)

  const exported = await service.app.inject('/prefixes/theirs/artifact?format=peft')
  assert.equal(exported.statusCode, 200)
  assert.equal(exported.headers['content-type'], 'application/zip')
  assert.equal(exported.headers['content-disposition'], 'attachment; filename="theirs-1-peft.zip"')
  const files = unzipSync(exported.rawPayload)
  assert.deepEqual(Object.keys(files).sort(), ['adapter_config.json', 'adapter_model.safetensors'])
  const { config, model: tensors } = adapterFiles('exported')
  assert.deepEqual(Buffer.from(files['adapter_config.json'] as Uint8Array), config)
  assert.deepEqual(Buffer.from(files['adapter_model.safetensors'] as Uint8Array), tensors)
  const again = await service.app.inject('/prefixes/theirs/artifact?format=peft')
  assert.deepEqual(again.rawPayload, exported.rawPayload)
  assert.notEqual(exported.headers['etag'], (await service.app.inject('/prefixes/theirs/artifact')).headers['etag'])
})

test('a prefix of our own goes out to PEFT and comes in again with the same numbers', async () => {
  const service = makeService()
  const { id } = await addReadyPrefix(service)
  const exported = await service.app.inject('/prefixes/e2e/artifact?format=peft')
  const files = unzipSync(exported.rawPayload)
  const config = files['adapter_config.json'] as Uint8Array
  assert.equal(JSON.parse(new TextDecoder().decode(config)).base_model_name_or_path, 'tiny')
  const model = files['adapter_model.safetensors'] as Uint8Array
  const template: Part = { name: 'template', value: ' {input} <|endoftext|>' }
  const response = await upload(service, [template, ...peftParts({ config, model })])
  assert.equal(response.statusCode, 201, response.body)
  const before = await artifactOf(service, id)
  const after = await artifactOf(service, response.json().id)
  assert.deepEqual([after.keys, after.values], [before.keys, before.values])
  const { training: _was, ...header } = before.header
  const { training: _is, ...headerAfter } = after.header
  assert.deepEqual(headerAfter, header)
})

test('a prefix that PEFT cannot play is not exported to it, and why is said', async () => {
  const service = makeService()
  const { id } = await addPrefix(service, { textPositionStart: 0 })
  const response = await service.app.inject(`/prefixes/${id}/artifact?format=peft`)
  assert.deepEqual([response.statusCode, response.json().code], [422, 'not_supported'])
  assert.match(response.json().detail, /text from position 0 on, PEFT plays textPositionStart 3 alone/)
  assert.equal((await service.app.inject(`/prefixes/${id}/artifact`)).statusCode, 200)
})

test("the paper's checkpoint becomes a prefix with the paper's template", async () => {
  const service = makeTinyService()
  const response = await upload(service, [{ name: 'paper_model', value: paperModel() }])
  assert.equal(response.statusCode, 201, response.body)
  const { template, prefixLength, training } = response.json()
  assert.deepEqual([template, prefixLength], [' {input} <|endoftext|>', 5])
  assert.deepEqual(training, { importedFrom: 'paper', reparametrization: 16 })
})

test('files that do not fit are refused with their status, and leave nothing behind', async () => {
  const service = makeTinyService()
  const [config, model] = peftParts() as [Part, Part]
  const artifact: Part = { name: 'artifact', value: paperModel() }
  const refused: readonly [number, string, RegExp, readonly Part[]][] = [
    [400, 'invalid_request', /adapter_model: expected a file beside adapter_config/, [config]],
    [400, 'invalid_request', /adapter_config: expected a file beside adapter_model/, [model]],
    [400, 'invalid_request', /one prefix.*received adapter_config and artifact/, [config, artifact]],
    [400, 'invalid_request', /adapter_config: expected one file, received two/, [config, config]],
    [400, 'invalid_request', /the field "adapter_config"/, [{ name: 'adapter_config', value: '{}' }, model]],
    [400, 'invalid_request', /template/, [config, model, { name: 'template', value: 'no mark' }]],
    [422, 'not_supported', /"LORA"/, peftParts(withConfig({ peft_type: 'LORA' }))],
    [409, 'prefix_model_mismatch', /SEQ_2_SEQ_LM/, peftParts(withConfig({ task_type: 'SEQ_2_SEQ_LM' }))],
    [422, 'prefix_invalid', /num_virtual_tokens 6/, peftParts(withConfig({ num_virtual_tokens: 6 }))],
    [
      422,
      'prefix_invalid',
      /swapped/,
      peftParts({ config: model.value as Uint8Array, model: config.value as Uint8Array }),
    ],
    [422, 'prefix_invalid', /paper_model/, [{ name: 'paper_model', value: model.value }]],
  ]
  for (const [status, code, detail, parts] of refused) {
    const response = await upload(service, parts)
    assert.deepEqual([response.statusCode, response.json().code], [status, code], response.body)
    assert.match(response.json().detail, detail)
  }
  assert.deepEqual((await service.registry.list({ limit: 10 })).data, [])
})

test('each file has a limit of its own', async () => {
  const limits = { ...defaultHttpLimits, artifactBytesMax: 1_000, paperBytesMax: 20_000 }
  const service = makeService({ model: tinyModel, limits })
  const big = await upload(service, peftParts())
  assert.deepEqual([big.statusCode, big.json().code], [413, 'body_too_large'])
  assert.match(big.json().detail, /adapter_model has more than 1000 bytes/)
  assert.equal((await upload(service, [{ name: 'paper_model', value: paperModel() }])).statusCode, 201)
  const bigger = await upload(service, [{ name: 'paper_model', value: new Uint8Array(20_001) }])
  assert.deepEqual([bigger.statusCode, bigger.json().code], [413, 'body_too_large'])
})

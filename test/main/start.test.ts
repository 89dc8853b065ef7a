// A start that cannot succeed says which thing is wrong and ends, with nothing written over.
import assert from 'node:assert/strict'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { readSafetensors, toFloat32, writeSafetensors } from '../../src/tensor/safetensors.ts'
import { startProcess } from './process.ts'

let folder: string
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), 'preamble-start-'))
})
after(async () => {
  await rm(folder, { recursive: true, force: true })
})

const refused = (env: Record<string, string>, message: RegExp): Promise<void> =>
  assert.rejects(startProcess({ DATA: path.join(folder, 'data'), ...env }), { message })

test('a MODEL folder with a missing tensor', async () => {
  const model = path.join(folder, 'model')
  await cp('test/golden/gpt2/model', model, { recursive: true })
  await cp('model/tokenizer.json', path.join(model, 'tokenizer.json'))
  const file = path.join(model, 'model.safetensors')
  const { tensors } = readSafetensors(await readFile(file))
  const kept = [...tensors].filter(([name]) => !name.endsWith('ln_f.weight'))
  await writeFile(
    file,
    writeSafetensors(
      kept.map(([name, { shape, bytes }]) => ({ name, dtype: 'F32', shape, data: toFloat32('F32', bytes) })),
    ),
  )
  await refused(
    { MODEL: model },
    /ended with 1:\n.*model_invalid: .*tensor ln_f\.weight is in none of model\.safetensors/s,
  )
})

test('a variable that is misspelt, and one with a value that is not allowed', async () => {
  await refused(
    { STOREURL: 'x', THREADS: 'many' },
    /config_invalid: .*STOREURL.*STORE_URL.*THREADS="many" is not allowed/s,
  )
})

test('a port that is taken', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => server.once('listening', resolve))
  const { port } = server.address() as AddressInfo
  await refused({ PORT: String(port) }, new RegExp(`config_invalid: PORT ${port} on 127\\.0\\.0\\.1 is in use`))
  server.close()
})

test('a queue that is not there', async () => {
  await refused({ QUEUE_URL: 'redis://127.0.0.1:1' }, /queue_unavailable: /)
})

// The form that was measured fastest is kept for later processes.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test, type TestContext } from 'node:test'
import { rememberedForm, rememberForm } from '../../src/runtime/onnx/remembered-forms.ts'

async function folderFor(t: TestContext): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-forms-'))
  t.after(() => rm(folder, { recursive: true }))
  return folder
}

test('a form is remembered for its layer and number of threads', async (t) => {
  const folder = path.join(await folderFor(t), 'made', 'when needed')
  assert.equal(await rememberedForm(folder, [768, 3072], 2), null)
  await rememberForm(folder, [768, 3072], 2, 'unsigned')
  await rememberForm(folder, [768, 3072], 4, 'float32')
  assert.equal(await rememberedForm(folder, [768, 3072], 2), 'unsigned')
  assert.equal(await rememberedForm(folder, [768, 3072], 4), 'float32')
  assert.equal(await rememberedForm(folder, [192, 768], 2), null)
})

test('what cannot be read, or names a form that nobody knows, is measured anew', async (t) => {
  const folder = await folderFor(t)
  const file = path.join(folder, 'forms.json')
  await writeFile(file, 'not JSON')
  assert.equal(await rememberedForm(folder, [4, 4], 1), null)
  await rememberForm(folder, [4, 4], 1, 'blocks')
  await writeFile(file, (await readFile(file, 'utf8')).replace('blocks', 'cubes'))
  assert.equal(await rememberedForm(folder, [4, 4], 1), null)
})

test('no more than a hundred are kept, the latest', async (t) => {
  const folder = await folderFor(t)
  for (let i = 1; i <= 102; i++) await rememberForm(folder, [i, 1], 1, 'unsigned')
  assert.equal(await rememberedForm(folder, [2, 1], 1), null)
  assert.equal(await rememberedForm(folder, [3, 1], 1), 'unsigned')
})

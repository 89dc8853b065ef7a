// Token ids and texts against Hugging Face's own tokenizers, for the default model's tokenizer and for GPT-2's.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, test } from 'node:test'
import { gunzipSync } from 'node:zlib'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'

interface Golden {
  readonly sha256: string
  readonly vocabulary: number
  readonly endOfText: number
  readonly cases: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[]
}

const folder = path.join('test', 'golden')
let gpt2Folder = ''

before(async () => {
  gpt2Folder = await mkdtemp(path.join(tmpdir(), 'preamble-tokenizer-'))
  const packed = await readFile(path.join(folder, 'tokenizer-gpt2', 'tokenizer.json.gz'))
  await writeFile(path.join(gpt2Folder, 'tokenizer.json'), gunzipSync(packed))
})
after(() => rm(gpt2Folder, { recursive: true, force: true }))

const suites = [
  {
    name: "the default model's tokenizer",
    where: () => 'model',
    golden: path.join(folder, 'tokenizer', 'default.json'),
  },
  { name: "GPT-2's tokenizer", where: () => gpt2Folder, golden: path.join(folder, 'tokenizer-gpt2', 'golden.json') },
]

for (const { name, where, golden: file } of suites) {
  test(`${name} gives the ids and texts that Hugging Face's tokenizers gives`, async () => {
    const golden = JSON.parse(await readFile(file, 'utf8')) as Golden
    const tokenizer = await openTokenizer(where())
    assert.equal(
      tokenizer.sha256,
      golden.sha256,
      `${file} was made with another tokenizer.json: make it anew, see test/golden/tokenizer/README.md`,
    )
    assert.equal(tokenizer.vocabulary, golden.vocabulary)
    assert.equal(tokenizer.endOfText, golden.endOfText)
    assert.equal(golden.cases.length, 60)
    for (const { text, ids, decoded } of golden.cases) {
      assert.deepEqual(tokenizer.encode(text), ids, `ids of ${JSON.stringify(text)}`)
      assert.equal(tokenizer.decode(ids), decoded)
    }
  })
}

// docs/e2e.md and its figures are what the results in the repository make, to the last character.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { renderPage } from '../../bench/e2e/page.ts'

test('page and figures of the E2E study follow from its results: `npm run bench -- e2e --part page` writes them', async () => {
  const files = Object.entries(await renderPage())
  const [[page, markdown] = ['', ''], ...figures] = files
  assert.equal(page, 'docs/e2e.md')
  const shown = [...markdown.matchAll(/\]\((e2e\/\w+\.svg)\)/g)].map(([, file]) => `docs/${file}`)
  assert.ok(shown.length >= 3)
  assert.deepEqual(
    figures.map(([file]) => file),
    shown,
  )
  for (const [file, text] of files) assert.equal(await readFile(file, 'utf8'), text, file)
})

test('a figure shows the names and values that it is given, and no page of the web', async () => {
  const { 'docs/e2e/length.svg': figure = '' } = await renderPage()
  assert.match(figure, /^<svg [^>]*viewBox="0 0 900 \d+"/)
  for (const text of ['How long a prefix should be', 'prefix length, virtual tokens', 'nats per token', 'BLEU'])
    assert.ok(figure.includes(text), text)
  assert.doesNotMatch(figure, /href|<script|<image/)
})

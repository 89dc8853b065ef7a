// Corpus BLEU against sacrebleu's own figures.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { corpusBleu, type Bleu } from '../../src/evaluate/bleu.ts'
import { tokenize13a } from '../../src/evaluate/tokens-13a.ts'

interface Expected {
  readonly mixed: Bleu
  readonly lowercase: Bleu
}
interface E2e {
  readonly references: string[][]
  readonly systems: Readonly<Record<string, Expected & { readonly hypotheses: string[] }>>
}
interface Odd {
  readonly segments: readonly { readonly text: string; readonly tokens: string[] }[]
  readonly corpora: Readonly<
    Record<string, Expected & { readonly hypotheses: string[]; readonly references: string[][] }>
  >
}

const read = async <T>(name: string): Promise<T> =>
  JSON.parse(await readFile(path.join('test', 'golden', 'metrics', name), 'utf8')) as T

function assertSame(actual: Bleu, expected: Bleu, what: string): void {
  const near = (name: string, a: number, b: number): void =>
    assert.ok(Math.abs(a - b) <= 1e-9 * Math.abs(b), `${what}: ${name} is ${a}, sacrebleu says ${b}`)
  near('score', actual.score, expected.score)
  near('brevity penalty', actual.brevityPenalty, expected.brevityPenalty)
  assert.equal(actual.precisions.length, expected.precisions.length)
  for (const [i, precision] of expected.precisions.entries())
    near(`precision ${i + 1}`, actual.precisions[i] as number, precision)
  assert.equal(actual.hypothesisLength, expected.hypothesisLength, what)
  assert.equal(actual.referenceLength, expected.referenceLength, what)
}

test("two systems' outputs on 100 E2E records score as in sacrebleu, with and without case", async () => {
  const { references, systems } = await read<E2e>('e2e-first100.json')
  assert.deepEqual(Object.keys(systems), ['tgen', 'slug'])
  for (const [name, { hypotheses, mixed, lowercase }] of Object.entries(systems)) {
    assertSame(corpusBleu(hypotheses, references), mixed, name)
    assertSame(corpusBleu(hypotheses, references, { lowercase: true }), lowercase, `${name}, lower case`)
  }
})

test('odd corpora score as in sacrebleu: nothing matches, empty texts, missing references, short texts', async () => {
  const { corpora } = await read<Odd>('odd.json')
  assert.ok(Object.keys(corpora).length > 10)
  for (const [name, { hypotheses, references, mixed, lowercase }] of Object.entries(corpora)) {
    assertSame(corpusBleu(hypotheses, references), mixed, name)
    assertSame(corpusBleu(hypotheses, references, { lowercase: true }), lowercase, `${name}, lower case`)
  }
})

test('odd segments fall into the tokens that sacrebleu finds', async () => {
  const { segments } = await read<Odd>('odd.json')
  for (const { text, tokens } of segments) assert.deepEqual(tokenize13a(text), tokens, JSON.stringify(text))
})

test('a reference that repeats the hypothesis scores 100, and the order of references does not matter', () => {
  const hypotheses = ['The Vaults is a pub near Café Adriatic.', 'Blue Spice serves Thai food.']
  const references = hypotheses.map((text) => ['Something else.', text])
  assert.ok(Math.abs(corpusBleu(hypotheses, references).score - 100) < 1e-9)
  const turned = references.map((texts) => [...texts].reverse())
  assert.deepEqual(corpusBleu(hypotheses, turned), corpusBleu(hypotheses, references))
})

test('a hypothesis without references, or lists of different lengths, are refused with both sides named', () => {
  assert.throws(() => corpusBleu(['a', 'b'], [['a'], []]), /hypothesis 1 has no reference/)
  assert.throws(() => corpusBleu(['a', 'b'], [['a']]), /2 hypotheses, but references for 1/)
})

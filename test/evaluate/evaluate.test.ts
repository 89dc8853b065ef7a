// All metrics of generated text against the figures that their own tools give.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'
import { corpusChrf } from '../../src/evaluate/chrf.ts'
import { corpusCider } from '../../src/evaluate/cider.ts'
import { scoreTexts } from '../../src/evaluate/evaluate.ts'
import { corpusMeteor } from '../../src/evaluate/meteor.ts'
import { corpusNist } from '../../src/evaluate/nist.ts'
import { stem } from '../../src/evaluate/porter.ts'
import { cocoRougeL } from '../../src/evaluate/rouge-l-coco.ts'
import { corpusRouge, type Rouge } from '../../src/evaluate/rouge.ts'
import { corpusTer } from '../../src/evaluate/ter.ts'
import { tokenizeCoco } from '../../src/evaluate/tokens-coco.ts'

interface Figures {
  readonly chrf: number
  readonly chrfLowercase: number
  readonly 'chrf++': number
  readonly ter: number
  readonly terNormalized: number
  readonly rougeStemmed: Rouge
  readonly rouge: Rouge
  readonly nist?: number
  readonly cocoRougeL?: number
  readonly cider?: number
  readonly meteor?: number
}
interface Texts {
  readonly hypotheses: string[]
  readonly references: string[][]
}
interface Scores {
  readonly e2e: Readonly<Record<string, Required<Figures> & { readonly officialMeteor: number }>>
  readonly odd: Readonly<Record<string, Texts & { readonly figures: Figures }>>
}
interface E2e {
  readonly references: string[][]
  readonly systems: Readonly<Record<string, { readonly hypotheses: string[] }>>
}
interface Words {
  readonly stems: Readonly<Record<string, string>>
  readonly coco: readonly { readonly text: string; readonly words: string[] }[]
}

const read = async <T>(name: string): Promise<T> =>
  JSON.parse(await readFile(path.join('test', 'golden', 'metrics', name), 'utf8')) as T

function near(actual: number, expected: number, what: string): void {
  const error = Math.abs(actual - expected)
  assert.ok(error <= 1e-9 * Math.max(1, Math.abs(expected)), `${what} is ${actual}, its own tool says ${expected}`)
}

function assertFigures({ hypotheses, references }: Texts, figures: Figures, what: string): void {
  near(corpusChrf(hypotheses, references), figures.chrf, `${what}: chrF`)
  near(corpusChrf(hypotheses, references, { lowercase: true }), figures.chrfLowercase, `${what}: chrF, lower case`)
  near(corpusChrf(hypotheses, references, { wordOrder: 2 }), figures['chrf++'], `${what}: chrF++`)
  near(corpusTer(hypotheses, references), figures.ter, `${what}: TER`)
  near(corpusTer(hypotheses, references, { normalized: true }), figures.terNormalized, `${what}: normalized TER`)
  for (const [stemming, expected] of [
    [true, figures.rougeStemmed],
    [false, figures.rouge],
  ] as const) {
    const rouge = corpusRouge(hypotheses, references, { stemming })
    for (const kind of ['rouge1', 'rouge2', 'rougeL'] as const)
      for (const part of ['precision', 'recall', 'fmeasure'] as const)
        near(rouge[kind][part], expected[kind][part], `${what}: ${part} of ${kind}, stemming ${stemming}`)
  }
  const rest = { nist: corpusNist, cocoRougeL, cider: corpusCider, meteor: corpusMeteor }
  for (const [name, metric] of Object.entries(rest)) {
    const expected = figures[name as keyof typeof rest]
    if (expected !== undefined) near(metric(hypotheses, references), expected, `${what}: ${name}`)
  }
}

test("two systems' outputs on 100 E2E records have the figures of each metric's own tool", async () => {
  const [{ references, systems }, { e2e }] = await Promise.all([
    read<E2e>('e2e-first100.json'),
    read<Scores>('scores.json'),
  ])
  assert.deepEqual(Object.keys(e2e), Object.keys(systems))
  for (const [name, { hypotheses }] of Object.entries(systems))
    assertFigures({ hypotheses, references }, e2e[name] as Required<Figures>, name)
})

test('odd corpora have them too: empty texts, repeated words, moved runs, lengths that differ much', async () => {
  const { odd } = await read<Scores>('scores.json')
  assert.ok(Object.keys(odd).length > 20)
  for (const [name, { figures, ...texts }] of Object.entries(odd)) assertFigures(texts, figures, name)
})

test('scoreTexts is the evaluation of the E2E challenge, and its METEOR at most 2 % below the official one', async () => {
  const [{ references, systems }, { e2e }] = await Promise.all([
    read<E2e>('e2e-first100.json'),
    read<Scores>('scores.json'),
  ])
  for (const [name, { hypotheses }] of Object.entries(systems)) {
    const figures = e2e[name] as Required<Figures> & { officialMeteor: number }
    const scores = scoreTexts(hypotheses, references)
    assert.deepEqual(Object.keys(scores).sort(), 'bleu chrf cider meteor nist rouge1 rouge2 rougeL ter'.split(' '))
    near(scores.nist, figures.nist, 'NIST')
    near(scores.rouge1, figures.rougeStemmed.rouge1.fmeasure, 'ROUGE-1')
    near(scores.rouge2, figures.rougeStemmed.rouge2.fmeasure, 'ROUGE-2')
    near(scores.rougeL, figures.cocoRougeL, 'ROUGE-L')
    near(scores.cider, figures.cider, 'CIDEr')
    near(scores.ter, figures.ter, 'TER')
    near(scores.chrf, figures.chrfLowercase, 'chrF')
    assert.ok(scores.meteor < figures.officialMeteor && scores.meteor > 0.98 * figures.officialMeteor)
  }
})

test("stems are those of NLTK's Porter stemmer", async () => {
  const { stems } = await read<Words>('words.json')
  assert.ok(Object.keys(stems).length > 300)
  for (const [word, expected] of Object.entries(stems)) assert.equal(stem(word), expected, word)
})

test("words of COCO's evaluation are those of its tokenizer", async () => {
  const { coco } = await read<Words>('words.json')
  for (const { text, words } of coco) assert.deepEqual(tokenizeCoco(text), words, text)
})

test('case and the order of references change no score', () => {
  const hypotheses = ['The Vaults is a pub near Café Adriatic.', 'Blue Spice serves cheap Thai food by the river.']
  const references = [
    ['Near Café Adriatic there is a pub, The Vaults.', 'The Vaults, a pub.'],
    ['By the river, Blue Spice serves Thai food.', 'Cheap Thai food is served at Blue Spice.', 'Blue Spice is cheap.'],
  ]
  const scores = scoreTexts(hypotheses, references)
  const loud = scoreTexts(
    hypotheses.map((text) => text.toUpperCase()),
    references,
  )
  assert.deepEqual(loud, scores)
  const turned = scoreTexts(
    hypotheses,
    references.map((texts) => [...texts].reverse()),
  )
  for (const [name, score] of Object.entries(scores)) near(turned[name as keyof typeof turned], score, name)
})

test('no hypotheses, one without references, and lists of different lengths are refused', () => {
  assert.throws(() => scoreTexts([], []), /there are no hypotheses to score/)
  assert.throws(() => scoreTexts(['a', 'b'], [['a'], []]), /hypothesis 1 has no reference/)
  assert.throws(() => scoreTexts(['a', 'b'], [['a']]), /2 hypotheses, but references for 1/)
})

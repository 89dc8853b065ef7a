// Times the choice of a token from one row of logits, for each thing that a request may ask of it.
import { rulesOf } from '../src/engine/logit-rules.ts'
import { BeamSearch } from '../src/engine/beam-search.ts'
import { Detokenizer } from '../src/engine/detokenizer.ts'
import { type Decoding, greedy } from '../src/engine/request.ts'
import { Sampler } from '../src/engine/sampler.ts'
import { Random } from '../src/random/random.ts'
import type { Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { median } from './machine.ts'

/** GPT-2's. */
export const benchVocabulary = 50_257
/** Rows in turn, so that none stays in the cache by itself. */
const rowsMax = 32
/** Tokens behind which the row stands. */
const historyLength = 256
const warmUps = 200
/** Tokens of a row that are likely at all. */
const standOut = 200

const sample: Decoding = { ...greedy, strategy: 'sample' }
const asked: readonly (readonly [string, Decoding, { readonly minNewTokens?: number; readonly top?: number }])[] = [
  ['greedy', greedy, {}],
  ['greedy, log-probabilities', greedy, { top: 0 }],
  ['greedy, 5 alternatives', greedy, { top: 5 }],
  ['greedy, repetition penalty', { ...greedy, repetitionPenalty: 1.2 }, {}],
  ['greedy, presence and frequency', { ...greedy, presencePenalty: 0.5, frequencyPenalty: 0.5 }, {}],
  ['greedy, no 3-gram twice', { ...greedy, noRepeatNgramSize: 3 }, {}],
  ['greedy, 100 banned sequences', { ...greedy, bannedTokens: sequences(100) }, {}],
  ['greedy, minimum length', greedy, { minNewTokens: 1000 }],
  ['sample', sample, {}],
  ['sample, temperature 0.7', { ...sample, temperature: 0.7 }, {}],
  ['sample, top-k 50', { ...sample, topK: 50 }, {}],
  ['sample, top-k 1000', { ...sample, topK: 1000 }, {}],
  ['sample, top-p 0.9', { ...sample, topP: 0.9 }, {}],
  ['sample, top-k 50, top-p 0.9', { ...sample, topK: 50, topP: 0.9 }, {}],
  ['sample, min-p 0.05', { ...sample, minP: 0.05 }, {}],
  ['sample, typical 0.9', { ...sample, typicalP: 0.9 }, {}],
]

/** Median microseconds a row, by name. */
export function measureSampling(
  tokenizer: Pick<Tokenizer, 'decode' | 'vocabulary'>,
  rounds: number,
): Record<string, number> {
  const random = new Random(1)
  const rows = Array.from({ length: rowsMax }, () => peakedRow(random))
  const prompt = Array.from({ length: historyLength / 2 }, () => random.below(benchVocabulary))
  const output = Array.from({ length: historyLength / 2 }, () => random.below(benchVocabulary))
  const sampler = new Sampler(benchVocabulary)
  const known = { encode: () => [], endOfText: benchVocabulary - 1, vocabulary: benchVocabulary }
  const figures: Record<string, number> = {}
  for (const [name, decoding, { minNewTokens = 0, top }] of asked) {
    const rules = rulesOf(decoding, minNewTokens, known)
    figures[name] = time(rounds, (round) => {
      const row = rows[round % rowsMax] as Float32Array
      const token = sampler.sample({ prompt, output, decoding, rules, random }, row)
      if (top !== undefined) sampler.score(row, token, top)
    })
  }
  const flat = rows.map(() => flatRow(random))
  for (const [name, decoding] of asked.filter(([each]) => /top-p|typical/.test(each))) {
    figures[`${name}, flat`] = time(rounds, (round) => {
      sampler.sample({ prompt, output, decoding, rules: null, random }, flat[round % rowsMax] as Float32Array)
    })
  }
  figures['beams, log-probabilities'] = time(rounds, (round) =>
    sampler.beamScores(null, { prompt, output }, rows[round % rowsMax] as Float32Array, 0),
  )
  const five = rows.slice(0, 5)
  const search = new BeamSearch({ ...greedy, beams: five.length, maxNewTokens: 1e9, endOfText: -1 })
  search.step([sampler.beamScores(null, { prompt, output }, rows[0] as Float32Array, 0)])
  figures['beams, choice among 5'] = time(Math.min(rounds, 500), () => search.step(five)) / five.length
  let detokenizer = new Detokenizer(tokenizer)
  figures['detokenizer'] = time(rounds, (round) => {
    if (round % historyLength === 0) detokenizer = new Detokenizer(tokenizer)
    detokenizer.push((round * 7919) % tokenizer.vocabulary)
  })
  return figures
}

/** Median of single calls, in microseconds. */
function time(rounds: number, call: (round: number) => void): number {
  for (let round = 0; round < warmUps; round++) call(round)
  const times: number[] = []
  for (let round = 0; round < rounds; round++) {
    const startMs = performance.now()
    call(round)
    times.push(1000 * (performance.now() - startMs))
  }
  return median(times)
}

/** Much as GPT-2 answers them: a hill far below zero, and tokens that stand out, of which few have nearly all the probability. */
export function peakedRow(random: Random, vocabulary = benchVocabulary): Float32Array {
  const row = Float32Array.from({ length: vocabulary }, () => -40 + 1.5 * random.normal())
  for (let i = 0; i < standOut; i++) row[random.below(vocabulary)] = -32 + 8 * random.next() ** 3
  return row
}

/** A wide hill alone: thousands of tokens share the probability, which is the hardest for filters. */
function flatRow(random: Random): Float32Array {
  return Float32Array.from({ length: benchVocabulary }, () => -40 + 2.2 * random.normal())
}

function sequences(count: number): number[][] {
  const random = new Random(3)
  return Array.from({ length: count }, () => [random.below(benchVocabulary), random.below(benchVocabulary)])
}

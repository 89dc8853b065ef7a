// Trains on real records in turn with PEFT, which takes them in random order and pads each batch to its longest row.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { gunzipSync } from 'node:zlib'
import type { Model } from '../src/model/model.ts'
import { defaultTemplate } from '../src/prefix/template.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openTokenizer, type Tokenizer } from '../src/tokenizer/tokenizer.ts'
import { epochBatches } from '../src/train/batches.ts'
import { encodeExamples, type EncodedExample } from '../src/train/encode.ts'
import type { Figures } from './machine.ts'
import { comparePeft, type PeftOptions } from './peft.ts'
import { readExamples } from './records.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'

/** Of examples/e2e: six batches of ten. */
const examplesMax = 60
const seed = 1

export async function compareRealBatches(
  runtime: Runtime,
  model: Model,
  precision: string,
  options: Omit<PeftOptions, 'real'>,
): Promise<Figures> {
  const scratch = await mkdtemp(path.join(tmpdir(), 'preamble-real-'))
  try {
    const { batchSize, prefixLength } = canonicalTraining
    const [tokenizer, examples] = [await gpt2Tokenizer(scratch), (await readExamples()).slice(0, examplesMax)]
    const room = { tokensMax: model.config.positionsMax - prefixLength, sourceMax: model.sourceMax }
    const encoded = encodeExamples(tokenizer, defaultTemplate, examples, room)
    const lengths = encoded.map(({ tokens }) => tokens.length)
    const batches = epochBatches(lengths, batchSize, seed, 0).map((batch) =>
      batch.map((index) => encoded[index] as EncodedExample),
    )
    const file = path.join(scratch, 'examples.json')
    // PEFT reads the last target too, and makes targets of its inputs by itself.
    const theirs = encoded.map(({ tokens, targets, promptLength }) => ({
      tokens: [...tokens, targets.at(-1)],
      promptLength,
    }))
    await writeFile(file, JSON.stringify(theirs))
    const bench = await openTrainingBench(runtime, model, canonicalTraining, precision, batches)
    const real = { file, theirSteps: Math.ceil(encoded.length / batchSize), ourSteps: batches.length }
    const figures = await comparePeft(bench, { ...options, real })
    await bench.dispose()
    return { form: bench.form, examples: encoded.length, ...figures }
  } finally {
    await rm(scratch, { recursive: true, force: true })
  }
}

/** The one that the tests have. */
async function gpt2Tokenizer(folder: string): Promise<Tokenizer> {
  const packed = await readFile('test/golden/tokenizer-gpt2/tokenizer.json.gz')
  await writeFile(path.join(folder, 'tokenizer.json'), gunzipSync(packed))
  return openTokenizer(folder)
}

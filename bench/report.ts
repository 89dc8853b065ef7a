// What docs/benchmarks.md says of each measurement, and which figures it shows.
import type { Figures } from './machine.ts'
import { show, table, type Section } from './sections.ts'

/** Trainings of one model. */
export interface Trainings {
  readonly model: string
  /** One for each precision. */
  readonly training: readonly Figures[]
  /** The same on real records, where PEFT was at hand. */
  readonly real: readonly Figures[]
  readonly together: Figures
}

/** Decoding of one model, a row for each number of rows. */
export interface Decodings {
  readonly model: string
  readonly decoding: readonly Figures[]
}

const timesFaster = { timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round' }

export function trainingSections(models: readonly Trainings[]): Section[] {
  const training = models.flatMap(({ model, training }) => training.map((each) => ({ model, ...each })))
  const real = models.flatMap(({ model, real }) => real.map((each) => ({ model, ...each })))
  const together = models.map(({ model, together }) => ({ model, ...together }))
  return [
    {
      heading: 'Training',
      text: `
One optimizer step (forward, backward, clipping, AdamW): 10 rows of 64 tokens, 32 of them targets, a direct prefix of 10. PEFT does the same work
with PyTorch in float32, in turn with ours. The form is that of products with frozen weights: precision fast takes the fastest of the machine.

${table({ model: 'model', form: 'form', stepMsMedian: 'step, ms', stepsPerSecond: 'steps/s', peftMsMedian: 'PEFT step, ms', ...timesFaster, peakMemoryMiB: 'peak memory, MiB' }, training)}`,
    },
    {
      heading: 'Real records',
      text: `
A pass over records of \`examples/e2e\` in batches of at most 10: ours of nearly equal length, with logits at target positions alone; PEFT's in random order,
each padded to its longest row, with logits everywhere. Step times are medians over batches; the ratio is that of whole passes, in turn.

${table({ model: 'model', form: 'form', examples: 'examples', stepMsMedian: 'step, ms', peftMsMedian: 'PEFT step, ms', ...timesFaster }, real)}`,
    },
    {
      heading: 'Trainings together',
      text: `
Forward and backward of several trainings, each with data and a prefix of its own, in one step and one after the other, by turns, float32.

${table({ model: 'model', trainings: 'trainings', togetherMs: 'together, ms', apartMs: 'one after the other, ms', ...timesFaster }, together)}`,
    },
  ]
}

export function lossesSection(model: string, rows: readonly Figures[]): Section {
  return {
    heading: 'Held-out loss of fast trainings',
    text: `
Five epochs on \`examples/e2e\` with a prefix of 10 made by a network of 512, in float32 and with frozen layers in 8 bits; nats per target token of the
held-out records, which are read in float32 after either.

${table(
  { model: 'model', form: 'form', seed: 'seed', float32: 'float32', fast: 'fast', percent: 'difference, %' },
  rows.map((row) => ({ model, ...row, ...fourDigits(row) })),
)}`,
  }
}

export function sharesSection(model: string, rows: readonly Figures[]): Section {
  return {
    heading: 'Where a training step goes',
    text: `
A step of 10 rows of 64 tokens with a prefix of 10: what of it is outside of matrix products. Their time is that of a step that is watched, by onnxruntime's profile or operation by operation of our own code, which takes time between
them; the whole that of a step without one right behind it, optimizer included; of 8 such pairs. Beside it the share of the step that is watched, and the kinds of operations that take the most time.

${table(
  {
    model: 'model',
    form: 'form',
    stepMsMedian: 'step, ms',
    outsidePercentMedian: 'outside products, %',
    outsidePercentMin: 'least, %',
    outsidePercentMax: 'most, %',
    profiledPercentMedian: 'watched, %',
    most: 'most of it',
  },
  rows.map((row) => ({ model, ...row })),
)}`,
  }
}

/** Losses differ in the third digit. */
const fourDigits = ({ float32, fast }: Figures): Figures => ({
  float32: Number(float32).toFixed(4),
  fast: Number(fast).toFixed(4),
})

export function decodingSection(models: readonly Decodings[]): Section {
  const decoding = models.flatMap(({ model, decoding }) => decoding.map((each) => ({ model, ...each })))
  return {
    heading: 'Decoding',
    text: `
One token for every row, each row with its own prefix of 10 and a prompt of 32 tokens, float32. Beside it, a plain read of as many bytes as
the weights have, by as many threads and by one.

${table({ model: 'model', rows: 'rows', stepMsMedian: 'step, ms', tokensPerSecond: 'tokens/s', plainReadMs: 'plain read, ms', plainReadOneThreadMs: 'by one thread, ms', timesPlainReadMedian: 'times the read', timesPlainReadMin: 'best round', timesPlainReadMax: 'worst round' }, decoding)}`,
  }
}

/** Steps of decoding by turns, ours in each form and others'. */
export function formsSection(model: string, rows: readonly Figures[]): Section {
  return {
    heading: 'Decoding in 8 bits',
    text: `
One token for every row, each row of ours with its own prefix of 10 and a prompt of 32 tokens; the others serve no prefix and have as many more tokens of
prompt. By turns, round by round; the ratio is to the better of the others.

${table(
  {
    model: 'model',
    rows: 'rows',
    what: 'engine, or form of ours',
    stepMsMedian: 'step, ms',
    tokensPerSecond: 'tokens/s',
    ...timesFaster,
  },
  rows.map((row) => ({ model, ...row })),
)}`,
  }
}

export function draftSections(
  shape: string,
  figures: { readonly texts: readonly Figures[]; readonly shape: readonly Figures[] },
): Section[] {
  return [
    {
      heading: 'Drafts',
      text: `
Texts of E2E records that no training has seen, with a prefix trained on 500, so many at once, prompts read and all: with drafts of at most 7 tokens a row
and without, by turns, 40 records a round. Before the first of the rounds that count there was one in which nothing was known of the task, nor of what steps cost. Tokens of a row are those that a step made of it; taken is the
share of drafts that came true; same are texts that are the same to the last word.

${table(
  {
    model: 'model',
    form: 'form',
    choice: 'choice',
    atOnce: 'at once',
    tokensPerSecondWithout: 'tokens/s without',
    tokensPerSecond: 'tokens/s with',
    ...timesFaster,
    timesFasterFirst: 'first round',
    tokensOfRow: 'tokens of a row',
    takenPercent: 'taken, %',
    texts: 'texts',
    same: 'same',
  },
  figures.texts,
)}`,
    },
    {
      heading: 'Drafts in a larger shape',
      text: `
The same texts in the shape of a larger model: its steps are computed, and the logits then changed to say what the trained model had said greedily. Each row has
a prefix of its own, with which 40 texts were made before. Milliseconds for a token of every row while all rows decode, drafts, choosing and taking back included; the
others serve no prefix, have 42 tokens of prompt and make one token a step. By turns; the ratio is to the better of the others.

${table(
  {
    model: 'model',
    rows: 'rows',
    what: 'engine, or form of ours',
    stepMsMedian: 'a token, ms',
    tokensPerSecond: 'tokens/s',
    ...timesFaster,
    tokensOfRow: 'tokens of a row',
  },
  figures.shape.map((row) => ({ model: shape, ...row })),
)}`,
    },
  ]
}

/** What was taken of the two. */
export function sourceSections({
  training,
  generation,
}: Readonly<Record<'training' | 'generation', readonly Figures[]>>): Section[] {
  const trainings = {
    heading: 'Training with an encoder',
    text: `
The shape of bart-base: a training step of 10 rows, source 256, target 48, prefixes of 20, in turn with PEFT in float32, which has one place alone; at all three in turn with
transformers' model over such prefixes. Where no prefix is in the encoder, ours has read the sources in the first pass over the examples, and not again: reading is what a step of that pass takes longer.

${table({ places: 'places', form: 'form', stepMsMedian: 'step, ms', readMsMedian: 'reading, ms', peftMsMedian: 'theirs, ms', ...timesFaster, timesFasterFirstMedian: 'in the first pass', peakMemoryMiB: 'peak memory, MiB' }, training)}`,
  }
  const generations = {
    heading: 'Generation with an encoder',
    text: `
48 tokens from each of 16 sources of 256, every row with its own prefix of 20 at all places, in turn with CTranslate2 in 8 bits, which has none.

${table({ what: 'what', secondsMedian: 'seconds', tokensPerSecond: 'tokens/s', ...timesFaster }, generation)}`,
  }
  return [...(training.length > 0 ? [trainings] : []), ...(generation.length > 0 ? [generations] : [])]
}

export function serviceSection(service: Figures): Section {
  return {
    heading: 'The service while it trains',
    text: `
The default model, a training with all cores in the child process, ${show(service['steps'])} steps meanwhile. Milliseconds.

${table({ healthMsP50: '/healthz p50', healthMsP99: '/healthz p99', healthMsMax: '/healthz max', generateMsP50: '/generate 32 tokens p50', generateMsMax: '/generate max' }, [service])}`,
  }
}

export function prefixesSection(prefixes: readonly Figures[]): Section {
  return {
    heading: 'A thousand prefixes beside one',
    text: `
Requests of 32 tokens, no two of them the same, and 16 to 48 new ones through the engine, its rows always taken, each with a prefix of 10 drawn from the stored ones, in turn
with the same requests that all name one. The pool holds all prefixes or so many; loads are those from the folder, as a share of the requests. Tokens per second.

${table({ model: 'model', form: 'form', prefixes: 'prefixes', pool: 'pool holds', rows: 'rows', oneTokensPerSecond: 'one prefix', manyTokensPerSecond: 'drawn', ratioMedian: 'ratio', ratioMin: 'worst round', ratioMax: 'best round', loadsShare: 'loads', loadMsP50: 'load p50, ms', loadMsP99: 'load p99, ms' }, prefixes)}`,
  }
}

export function generationSection(generation: readonly Figures[]): Section {
  return {
    heading: 'Generation beside PEFT',
    text: `
64 new tokens for prompts of 32, each row with its own prefix of 10, through the engine. PEFT plays one prefix at a time, so it has one row after the other, its
adapter switched in between; and beside it a batch of PEFT's whose rows all have the same prefix. Greedy, in turn, tokens per second.

${table({ model: 'model', rows: 'rows', form: 'form', tokensPerSecond: 'ours', peftTokensPerSecond: 'PEFT', ...timesFaster, peftSamePrefixTokensPerSecond: 'PEFT, same prefix', timesSamePrefixMedian: 'times that' }, generation)}`,
  }
}

export function loadSection(serve: readonly Figures[]): Section {
  return {
    heading: 'The service under load',
    text: `
${show(serve[0]?.['clients'])} clients at once over HTTP, on the same machine, for ${show(serve[0]?.['seconds'])} s: ${show(serve[0]?.['prefixes'])} prefixes, inputs and outputs of mixed lengths, half of the requests streamed, some
sampled, one in twenty left by its client. Milliseconds as the clients see them: to the first token, between two, to the end.

${table({ model: 'model', precision: 'precision', requestsPerSecond: 'requests/s', tokensPerSecond: 'tokens/s', failed: 'failed', overloaded: 'overloaded', firstMsP50: 'first p50', firstMsP99: 'p99', betweenMsP50: 'between p50', betweenMsP99: 'p99', wholeMsP50: 'whole p50', wholeMsP99: 'p99' }, serve)}

Memory of the process after its garbage is gone, before and after the load, MiB.

${table({ precision: 'precision', rssBeforeMiB: 'resident, before', rssAfterMiB: 'after', heapBeforeMiB: 'heap and buffers, before', heapAfterMiB: 'after', filesBefore: 'open files, before', filesAfter: 'after' }, serve)}`,
  }
}

export function gapsSection(gaps: readonly Figures[]): Section {
  return {
    heading: 'Between two tokens',
    text: `
Milliseconds between two tokens of rows that decode, through the engine: with nothing beside them, and while two prompts of so many tokens are always in line. A step
that reads a piece of a prompt tries no drafts.

${table({ model: 'model', form: 'form', rows: 'rows', promptLength: 'tokens of prompts', gapMsMedian: 'p50', gapMsP99: 'p99', gapMsMax: 'longest', timesMedian: 'p99 / p50', tokensPerSecond: 'tokens/s', promptTokensPerSecond: 'tokens read/s' }, gaps)}`,
  }
}

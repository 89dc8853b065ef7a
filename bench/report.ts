// Writes docs/benchmarks.md from the figures of one run.
import { writeFile } from 'node:fs/promises'
import type { Figures, Machine } from './machine.ts'

export interface Measured {
  readonly model: string
  /** One for each precision. */
  readonly training: readonly Figures[]
  /** The same on real records, where PEFT was at hand. */
  readonly real: readonly Figures[]
  readonly together: Figures
  readonly decoding: readonly Figures[]
}

export interface FullReport {
  readonly machine: Machine
  readonly threads: number
  readonly models: readonly Measured[]
  readonly service: Figures
  /** Of the default model; each pool is a row. */
  readonly prefixes: readonly Figures[]
  readonly serve: Figures
  /** Of a model with an encoder, beside others. */
  readonly sources: Readonly<Record<'training' | 'generation', readonly Figures[]>>
  /** Beside PEFT, with the shape of GPT-2. */
  readonly generation: Figures
}

const file = 'docs/benchmarks.md'
/** Headings say the unit, so cells need three digits and no more. */
const show = (value: number | string | undefined): string =>
  typeof value === 'number' ? String(Number(value.toPrecision(3))) : (value ?? '–')

function table(columns: Readonly<Record<string, string>>, rows: readonly Figures[]): string {
  const line = (cells: readonly string[]): string => `| ${cells.join(' | ')} |`
  const keys = Object.keys(columns)
  return [
    line(Object.values(columns)),
    line(keys.map(() => '---')),
    ...rows.map((row) => line(keys.map((key) => show(row[key])))),
  ].join('\n')
}

export async function writeReport(report: FullReport): Promise<string> {
  const { machine, threads, models, service } = report
  const training = models.flatMap(({ model, training }) => training.map((each) => ({ model, ...each })))
  const real = models.flatMap(({ model, real }) => real.map((each) => ({ model, ...each })))
  const together = models.map(({ model, together }) => ({ model, ...together }))
  const decoding = models.flatMap(({ model, decoding }) => decoding.map((each) => ({ model, ...each })))
  const peft = training.find((row) => 'peft' in row) as Figures | undefined
  const versions =
    peft === undefined
      ? ''
      : ` PyTorch ${show(peft['torch'])}, transformers ${show(peft['transformers'])}, PEFT ${show(peft['peft'])}.`
  const text = `# Benchmarks

Written by \`npm run bench -- report\`. Figures are medians of one run; a ratio compares two things measured in turn in that run, which is what holds
when a machine's speed drifts. Models named after a shape have seeded weights of that shape.

Taken on ${machine.cpu}, ${machine.processors} processors, ${threads} threads; Node ${machine.node}, onnxruntime-node ${machine.onnxruntime}, commit ${machine.commit}.${versions}

## Training

One optimizer step (forward, backward, clipping, AdamW): 10 rows of 64 tokens, 32 of them targets, a direct prefix of 10. PEFT does the same work
with PyTorch in float32, in turn with ours. The form is that of products with frozen weights: precision fast takes the fastest of the machine.

${table({ model: 'model', form: 'form', stepMsMedian: 'step, ms', stepsPerSecond: 'steps/s', peftMsMedian: 'PEFT step, ms', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round', peakMemoryMiB: 'peak memory, MiB' }, training)}

## Real records

A pass over records of \`examples/e2e\` in batches of at most 10: ours of nearly equal length, with logits at target positions alone; PEFT's in random order,
each padded to its longest row, with logits everywhere. Step times are medians over batches; the ratio is that of whole passes, in turn.

${table({ model: 'model', form: 'form', examples: 'examples', stepMsMedian: 'step, ms', peftMsMedian: 'PEFT step, ms', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round' }, real)}

## Trainings together

Forward and backward of several trainings, each with data and a prefix of its own, in one step and one after the other, by turns, float32.

${table({ model: 'model', trainings: 'trainings', togetherMs: 'together, ms', apartMs: 'one after the other, ms', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round' }, together)}

## Decoding

One token for every row, each row with its own prefix of 10 and a prompt of 32 tokens, float32. Beside it, a plain read of as many bytes as
the weights have, by as many threads and by one.

${table({ model: 'model', rows: 'rows', stepMsMedian: 'step, ms', tokensPerSecond: 'tokens/s', plainReadMs: 'plain read, ms', plainReadOneThreadMs: 'by one thread, ms', timesPlainReadMedian: 'times the read', timesPlainReadMin: 'best round', timesPlainReadMax: 'worst round' }, decoding)}

## The service while it trains

The default model, a training with all cores in the child process, ${show(service['steps'])} steps meanwhile. Milliseconds.

${table({ healthMsP50: '/healthz p50', healthMsP99: '/healthz p99', healthMsMax: '/healthz max', generateMsP50: '/generate 32 tokens p50', generateMsMax: '/generate max' }, [service])}
${serving(report)}${withSources(report)}`
  await writeFile(file, text)
  return file
}

/** The section on a model with an encoder. */
function withSources({ sources }: Pick<FullReport, 'sources'>): string {
  return `
## With an encoder

The shape of bart-base: a training step of 10 rows, source 256, target 48, prefixes of 20, in turn with PEFT in float32, which has one place alone; at all three in turn with
transformers' model over such prefixes. Generation of 48 tokens from each of 16 sources, every row with its own prefix, in turn with CTranslate2, which has none.

${table({ places: 'places', form: 'form', stepMsMedian: 'step, ms', peftMsMedian: 'theirs, ms', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round', peakMemoryMiB: 'peak memory, MiB' }, sources.training)}

${table({ what: 'what', secondsMedian: 'seconds', tokensPerSecond: 'tokens/s', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round' }, sources.generation)}
`
}

/** Sections on many prefixes, on PEFT and on load. */
function serving({ prefixes, generation, serve }: Pick<FullReport, 'prefixes' | 'generation' | 'serve'>): string {
  return `
## A thousand prefixes beside one

Requests of 32 tokens and 32 new ones through the engine, its rows always taken, each with a prefix of 10 drawn from the stored ones, in turn with the same
requests that all name one. The pool holds all prefixes or so many; loads are those from the folder, as a share of the requests. Tokens per second.

${table({ model: 'model', prefixes: 'prefixes', pool: 'pool holds', rows: 'rows', oneTokensPerSecond: 'one prefix', manyTokensPerSecond: 'drawn', ratioMedian: 'ratio', ratioMin: 'worst round', ratioMax: 'best round', loadsShare: 'loads', loadMsP50: 'load p50, ms', loadMsP99: 'load p99, ms' }, prefixes)}

## Generation beside PEFT

64 new tokens for prompts of 32, each row with its own prefix of 10, through the engine. PEFT plays one prefix at a time, so it has one row after the other, its
adapter switched in between; and beside it a batch of PEFT's whose rows all have the same prefix. Greedy, in turn, tokens per second.

${table({ model: 'model', rows: 'rows', tokensPerSecond: 'ours', peftTokensPerSecond: 'PEFT', timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round', peftSamePrefixTokensPerSecond: 'PEFT, same prefix', timesSamePrefixMedian: 'times that' }, [generation])}

## The service under load

${show(serve['clients'])} clients at once over HTTP, on the same machine, for ${show(serve['seconds'])} s: ${show(serve['prefixes'])} prefixes, inputs and outputs of mixed lengths, half of the requests streamed, some
sampled, one in twenty left by its client. Milliseconds as the clients see them: to the first token, between two, to the end.

${table({ model: 'model', requestsPerSecond: 'requests/s', tokensPerSecond: 'tokens/s', failed: 'failed', overloaded: 'overloaded', firstMsP50: 'first p50', firstMsP99: 'p99', betweenMsP50: 'between p50', betweenMsP99: 'p99', wholeMsP50: 'whole p50', wholeMsP99: 'p99' }, [serve])}

Memory of the process after its garbage is gone, before and after the load, MiB.

${table({ rssBeforeMiB: 'resident, before', rssAfterMiB: 'after', heapBeforeMiB: 'heap and buffers, before', heapAfterMiB: 'after', filesBefore: 'open files, before', filesAfter: 'after' }, [serve])}
`
}

// The benchmarks by name: what each measures, and the sections of docs/benchmarks.md that it can write.
import path from 'node:path'
import { openModel, type Model } from '../src/model/model.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import * as given from './arguments.ts'
import { measureChoice } from './choose.ts'
import { measureChoosing } from './choosing.ts'
import { measureCuda } from './cuda.ts'
import { cudaSections, webgpuSections } from './device-report.ts'
import { measuredBesideCpu, measuredWork, triedWork } from './device-work.ts'
import { compareDrafts, compareForms, compareTexts, packedRuntime, type FormOptions } from './decoding-forms.ts'
import { runE2e } from './e2e/e2e.ts'
import { benchFolder, checkpointFolder } from './folders.ts'
import { measureGaps } from './gaps.ts'
import { compareGeneration } from './generate-peft.ts'
import { measureLoad } from './load/load.ts'
import { compareLosses } from './losses.ts'
import type { Figures } from './machine.ts'
import { measureDecodings, measureTrainings } from './measure.ts'
import { measurePrefixes } from './prefixes.ts'
import {
  decodingSection,
  draftSections,
  formsSection,
  gapsSection,
  generationSection,
  loadSection,
  lossesSection,
  sharesSection,
  prefixesSection,
  serviceSection,
  sourceSections,
  trainingSections,
  type Trainings,
} from './report.ts'
import { benchVocabulary, measureSampling } from './sampling.ts'
import { measureShares, type OpenWatched, type StepShares } from './step-shares.ts'
import type { Section } from './sections.ts'
import { measureService } from './service.ts'
import { compareSources } from './sources.ts'
import { usage } from './usage.ts'
import { measureWebgpu } from './webgpu.ts'

export interface Outcome {
  /** Figures by name, printed. */
  readonly figures: Readonly<Record<string, unknown>>
  /** What they come to on the page. */
  readonly sections?: readonly Section[]
}

type Command = (folder: string) => Promise<Outcome>

/** Of the service, unless said otherwise. */
const servedRows = 32

const say = (line: string): void => void process.stdout.write(`${line}\n`)
const common = (): { readonly threads: number; readonly rounds: number } => ({
  threads: given.count('threads'),
  rounds: given.count('rounds'),
})
const peftIfAsked = (): { readonly python: string; readonly dtype: string } | null =>
  given.rivals.includes('peft') ? { python: given.python, dtype: given.peftDtype } : null

/** Without a name: one canonical workload, two numbers. */
const canonical: Command = async (folder) => {
  const precisions = [given.precision('float32')]
  const { model: _, ...trainings } = await measureTrainings({ ...common(), folder, precisions, peft: peftIfAsked() })
  const { decoding } = await measureDecodings(folder, { ...common(), rows: given.count('rows', 8) })
  return { figures: { ...trainings, decoding } }
}

/** The default model alone, and the shape of GPT-2 beside PEFT where asked for. */
const train: Command = async (folder) => {
  const precisions = given.precision('float32,fast').split(',')
  const models: Trainings[] = []
  if (given.shapeNamed === undefined)
    models.push(await measureTrainings({ ...common(), folder, precisions, peft: null }))
  const gpt2 = await given.modelFolder(given.shapeNamed ?? 'gpt2')
  models.push(await measureTrainings({ ...common(), folder: gpt2, precisions, peft: peftIfAsked() }))
  return { figures: namedByModel(models), sections: trainingSections(models) }
}

const decoding: Command = async (folder) => {
  const rows = given.count('rows', 8)
  const models = []
  for (const each of [folder, await given.modelFolder('gpt2')])
    models.push(await measureDecodings(each, { ...common(), rows }))
  return { figures: namedByModel(models), sections: [decodingSection(models)] }
}

const losses: Command = async (folder) => {
  const { threads, rounds } = common()
  const seeds = Array.from({ length: rounds }, (_, i) => given.count('seed') + i)
  const rows = await compareLosses(packedRuntime(threads), folder, given.precision('fast'), seeds)
  const { name } = await openModel(folder)
  return { figures: { losses: rows }, sections: [lossesSection(name, rows)] }
}

/** Steps that count. */
const profiledSteps = 8

const shares: Command = async () => {
  const threads = given.count('threads')
  const model = await openModel(await given.modelFolder(given.shapeNamed ?? 'gpt2'))
  const open: OpenWatched = (watch) => packedRuntime(threads, watch)
  const rows: StepShares[] = []
  for (const precision of given.precision('float32,fast').split(','))
    rows.push(await measureShares(open, model, precision, profiledSteps))
  return { figures: { shares: rows }, sections: [sharesSection(model.name, rows)] }
}

const sampling: Command = async (folder) => {
  const figures = measureSampling(await openTokenizer(folder), samplingRounds * given.count('rounds'))
  for (const [name, us] of Object.entries(figures)) say(`${name.padEnd(32)} ${us.toFixed(1).padStart(8)} µs`)
  return { figures: { vocabulary: benchVocabulary } }
}

/** Calls of one round: each takes less than a millisecond. */
const samplingRounds = 200

const choose: Command = async (folder) => {
  say(`wrote ${await measureChoice(folder, given.data('choose'), given.count('threads'), say)}`)
  return { figures: {} }
}

const e2e: Command = async (model) => {
  const { threads } = common()
  const together = given.count('together')
  await runE2e({ data: given.dataIfNamed, part: given.part(), together, checkpoints: checkpointFolder, model, threads })
  return { figures: {} }
}

/** Seconds of each measurement, and tokens of the prompts that arrive: the second is the bar, the first to compare with. */
const gapSeconds = 30
const gapPrompts = [0, 900]

const gaps: Command = async (folder) => {
  const runtime = packedRuntime(given.count('threads'))
  const model = await openModel(folder)
  const measured: Figures[] = []
  for (const precision of given.precision('float32').split(',')) {
    const form = await formOf(runtime, model, precision)
    for (const promptLength of gapPrompts) {
      const workload = { form, rows: given.count('rows', 8), promptLength, seconds: gapSeconds }
      measured.push(await measureGaps(runtime, model, workload))
    }
  }
  return { figures: { gaps: measured }, sections: [gapsSection(measured)] }
}

const choosing: Command = async (folder) => {
  const options = {
    ...common(),
    model: await openModel(folder),
    folder,
    rows: given.count('rows', servedRows),
    form: given.precision('float32'),
  }
  return { figures: { choosing: await measureChoosing(options) } }
}

const prefixes: Command = async (folder) => {
  const { threads, rounds } = common()
  const figures: Figures[] = []
  const folders = given.shapeNamed === undefined ? [folder, await given.modelFolder('gpt2')] : [folder]
  for (const each of folders) {
    const model = await openModel(each)
    const counts = { prefixes: given.count('prefixes', 1_000), rows: given.count('rows', servedRows), rounds, seed: 1 }
    const runtime = packedRuntime(threads)
    for (const precision of given.precision('float32').split(',')) {
      const form = await formOf(runtime, model, precision)
      figures.push(...(await measurePrefixes(runtime, { model, folder: each, form, ...counts })))
    }
  }
  return { figures: { prefixes: figures }, sections: [prefixesSection(figures)] }
}

/** Of a session: that of the precision, which `fast` has this machine choose. */
const formOf = async (runtime: Runtime, model: Model, precision: string): Promise<string> =>
  precision === 'fast' ? runtime.decodingForm(model.forwardGraph(), model.weights) : precision

/** In each precision that is named, with the shape of GPT-2 where no model is. */
const generate: Command = async () => {
  if (!given.rivals.includes('peft')) throw new Error(`generate needs --against peft\n${usage}`)
  const folder = await given.modelFolder(given.shapeNamed ?? 'gpt2')
  const { threads, rounds } = common()
  const [runtime, model] = [packedRuntime(threads), await openModel(folder)]
  const shared = { model, folder, rows: given.count('rows', servedRows), rounds, threads, python: given.python }
  const figures: Figures[] = []
  for (const precision of given.precision('float32,fast').split(',')) {
    const form = await formOf(runtime, model, precision)
    figures.push(await compareGeneration(runtime, { ...shared, dtype: given.peftDtype, form }))
  }
  return { figures: { generate: figures }, sections: [generationSection(figures)] }
}

/** A model with an encoder, beside the rivals that are named. */
const sources: Command = async () => {
  const figures = await compareSources({
    ...common(),
    folder: await given.modelFolder(given.shapeNamed ?? 'bart-base'),
    precisions: given.precision('float32,fast').split(','),
    peft: given.rivals.includes('peft') ? given.python : null,
    ctranslate2: given.rivals.includes('ctranslate2') ? given.pythonCtranslate2 : null,
  })
  return { figures, sections: sourceSections(figures) }
}

const formOptions = (folder: string): FormOptions => ({
  ...common(),
  folder,
  rows: given.rowsOrNull(),
  precision: given.precision('float32'),
  rivals: given.rivals,
  python: given.python,
})

const decode: Command = async (folder) => {
  const figures = await compareForms(formOptions(folder))
  return { figures: { decode: figures }, sections: [formsSection((await openModel(folder)).name, figures)] }
}

const agreement: Command = async (folder) => ({
  figures: { agreement: await compareTexts(formOptions(folder), given.data('agreement')) },
})

/** Texts of the model, and what they come to in GPT-2's shape. */
const drafts: Command = async () => {
  const shape = await given.modelFolder(given.shapeNamed ?? 'gpt2')
  const options = { ...formOptions(given.model), precision: given.precision('float32,words') }
  const figures = await compareDrafts(options, shape, given.data('drafts'))
  return { figures, sections: draftSections((await openModel(shape)).name, figures) }
}

const service: Command = async (folder) => {
  const figures: Figures = { ...(await measureService(folder, given.count('threads'))) }
  return { figures: { service: figures }, sections: [serviceSection(figures)] }
}

/** Ends with 1 when something does not hold, but only after the figures. */
const serve: Command = async (model) => {
  const all: Figures[] = []
  for (const precision of given.precision('float32').split(',')) {
    const { figures, broken } = await measureLoad({
      model,
      precision,
      threads: given.count('threads'),
      clients: given.count('clients'),
      prefixes: given.count('prefixes', 100),
      prefixLength: 10,
      seconds: given.count('seconds'),
      seed: given.count('seed'),
      say: (line) => void process.stderr.write(`${line}\n`),
    })
    for (const each of broken) process.stderr.write(`does not hold: ${each}\n`)
    if (broken.length > 0) process.exitCode = 1
    all.push({ ...figures, broken: broken.length })
  }
  return { figures: { serve: all }, sections: [loadSection(all)] }
}

/** Every section; what needs a rival is taken without it where none was named. */
const report: Command = async (folder) => {
  const rivals = given.rivals.includes('peft') ? [generate, sources] : []
  const figures: Record<string, unknown> = {}
  const sections: Section[] = []
  for (const part of [train, losses, decoding, service, prefixes, ...rivals, serve]) {
    const outcome = await part(folder)
    Object.assign(figures, outcome.figures)
    sections.push(...(outcome.sections ?? []))
  }
  return { figures, sections }
}

/** On an NVIDIA GPU. Each part is printed as it is there, and all of them at the end. */
const onCuda: Command = async () => {
  const peft = given.rivals.includes('peft') ? { python: given.python, device: given.peftDevice } : null
  const options = {
    ...common(),
    folder: await given.deviceModelFolder(),
    largeFolder: await given.modelFolder(given.quick ? 'tiny' : 'gpt2-medium'),
    work: given.quick ? triedWork : measuredWork,
    peft,
    write: given.write,
    libraries: given.cudaLibraries(),
    kernels: path.join(benchFolder, 'kernels'),
  }
  const figures = await measureCuda(options, (part) => process.stderr.write(`${JSON.stringify(part)}\n`))
  return { figures, sections: cudaSections(figures) }
}

/** On whatever GPU there is, in turn with the CPU. */
const onWebgpu: Command = async () => {
  const work = given.quick ? triedWork : measuredBesideCpu
  const folder = await given.deviceModelFolder()
  const figures = await measureWebgpu({ ...common(), folder, work, write: given.write })
  return { figures, sections: webgpuSections(figures) }
}

/** On a GPU alone, by the name of its runtime. */
export const onDevice: Readonly<Record<string, Command>> = { cuda: onCuda, webgpu: onWebgpu }

export const commands: Readonly<Record<string, Command>> = {
  '': canonical,
  train,
  losses,
  decoding,
  decode,
  agreement,
  drafts,
  generate,
  sources,
  prefixes,
  service,
  serve,
  gaps,
  sampling,
  shares,
  choosing,
  choose,
  e2e,
  report,
}

/** Of commands that are there to write the page. */
export const writing: readonly string[] = ['train', 'report']

function namedByModel(models: readonly ({ readonly model: string } & object)[]): Record<string, unknown> {
  return Object.fromEntries(
    models.flatMap(({ model, ...kinds }) =>
      Object.entries(kinds).map(([kind, figures]) => [`${model} ${kind}`, figures]),
    ),
  )
}

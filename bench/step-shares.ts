// Where a training step goes: the share of everything that is no matrix product, by the profile of onnxruntime or of our own code.
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { InferenceSession } from 'onnxruntime-node'
import type { Model } from '../src/model/model.ts'
import type { OnnxOptions } from '../src/runtime/onnx/onnx.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { median, type Figures } from './machine.ts'
import { canonicalTraining, openTrainingBench } from './train.ts'

/** Products of matrices, in every form of them. */
const products = new Set([
  'MatMul',
  'FusedMatMul',
  'Gemm',
  'FusedGemm',
  'MatMulIntegerToFloat',
  'MatMulInteger',
  'MatMulNBits',
  'gemm',
  'gemmByColumn',
])
/** Steps before those that count. */
const warmUps = 2
/** For idle threads of the other session to stop spinning. */
const settleMs = 150
/** Of the table: kinds of nodes that take the most time. */
const kindsMax = 8

/** An event of the profile; times in microseconds. */
interface ProfileEvent {
  readonly name: string
  readonly cat: string
  readonly ts: number
  readonly dur: number
  readonly args?: { readonly op_name?: string }
}

export interface StepShares extends Figures {
  readonly form: string
  readonly steps: number
  /** Of a step without a profile, beside it. */
  readonly outsidePercentMedian: number
  readonly outsidePercentMin: number
  readonly outsidePercentMax: number
  /** Of the step with it. */
  readonly profiledPercentMedian: number
}

export type OpenWatched = (watch?: OnnxOptions['watch']) => Runtime

/** Of one step: milliseconds of each kind of operation. */
type Kinds = Map<string, number>

/**
 * Of `steps` steps of GPT-2's canonical training: time of a step in ms, and what of it is outside of products, in percent. Being watched
 * takes time between operations, so a step that is not is taken by turns: the products' time is of the one, the whole of the other.
 */
export async function measureShares(
  open: OpenWatched,
  model: Model,
  precision: string,
  steps: number,
): Promise<StepShares> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-profile-'))
  const plain = await openTrainingBench(open(), model, canonicalTraining, precision)
  // Its session is made by its first step.
  await plain.step()
  const profiled = profileSessions(path.join(folder, 'step'))
  try {
    let own: Kinds = new Map()
    const watched = open((kernel, ms) => own.set(kernel, (own.get(kernel) ?? 0) + ms))
    const bench = await openTrainingBench(watched, model, canonicalTraining, precision)
    const [plainMs, ownKinds, ownMs]: [number[], Kinds[], number[]] = [[], [], []]
    for (let step = 0; step < warmUps + steps; step++) {
      own = new Map()
      ownMs.push(await bench.step())
      ownKinds.push(own)
      await setTimeout(settleMs)
      plainMs.push(await plain.step())
      await setTimeout(settleMs)
    }
    profiled.end()
    await bench.dispose()
    const counted = <Each>(each: readonly Each[]): Each[] => each.slice(warmUps)
    if (own.size > 0)
      return { form: bench.form, steps, ...sharesOf(counted(ownKinds), counted(ownMs), counted(plainMs)) }
    const profiles = await Promise.all((await readdir(folder)).map((file) => readProfile(path.join(folder, file))))
    // Measuring forms opens sessions too: the step is what ran the longest.
    const events = profiles.toSorted((a, b) => busy(b) - busy(a))[0] as readonly ProfileEvent[]
    const runs = events.filter(isRun).slice(-steps)
    const runMs = runs.map(({ dur }) => dur / 1000)
    return { form: bench.form, steps, ...sharesOf(kindsOf(events, runs), runMs, counted(plainMs)) }
  } finally {
    profiled.restore()
    await plain.dispose()
    await rm(folder, { recursive: true })
  }
}

/** Every session that is opened from here on writes a profile. */
function profileSessions(profileFilePrefix: string): { end(): void; restore(): void } {
  const open = new Set<InferenceSession>()
  const own = Object.getOwnPropertyDescriptor(InferenceSession, 'create') as PropertyDescriptor
  const create = InferenceSession.create.bind(InferenceSession) as (
    model: Uint8Array,
    options: InferenceSession.SessionOptions,
  ) => Promise<InferenceSession>
  // A session that is gone has no profile to end.
  const end = (session: InferenceSession): void => {
    if (open.delete(session)) session.endProfiling()
  }
  const profiling = async (model: Uint8Array, options: InferenceSession.SessionOptions): Promise<InferenceSession> => {
    const session = await create(model, { ...options, enableProfiling: true, profileFilePrefix })
    open.add(session)
    const release = session.release.bind(session)
    session.release = () => {
      end(session)
      return release()
    }
    return session
  }
  Object.defineProperty(InferenceSession, 'create', { ...own, value: profiling })
  return {
    end: () => [...open].forEach(end),
    restore: () => void Object.defineProperty(InferenceSession, 'create', own),
  }
}

async function readProfile(file: string): Promise<readonly ProfileEvent[]> {
  return JSON.parse(await readFile(file, 'utf8')) as readonly ProfileEvent[]
}

const isRun = ({ name }: ProfileEvent): boolean => name === 'model_run'
const isNode = ({ cat, name }: ProfileEvent): boolean => cat === 'Node' && name.endsWith('_kernel_time')
const busy = (events: readonly ProfileEvent[]): number =>
  events.reduce((sum, event) => sum + (isRun(event) ? event.dur : 0), 0)

/** Of the profile of onnxruntime. */
function kindsOf(events: readonly ProfileEvent[], runs: readonly ProfileEvent[]): Kinds[] {
  const nodes = events.filter(isNode)
  return runs.map((run) => {
    const kinds: Kinds = new Map()
    for (const { ts, dur, args } of nodes) {
      if (ts < run.ts || ts >= run.ts + run.dur) continue
      const kind = args?.op_name ?? 'unknown'
      kinds.set(kind, (kinds.get(kind) ?? 0) + dur / 1000)
    }
    return kinds
  })
}

/** `plainMs`: steps that nobody watched, each behind one of `watchedMs`. */
function sharesOf(kinds: readonly Kinds[], watchedMs: readonly number[], plainMs: readonly number[]) {
  const all: Kinds = new Map()
  const productsMs = kinds.map((each) => {
    let inProducts = 0
    for (const [kind, ms] of each) {
      all.set(kind, (all.get(kind) ?? 0) + ms / kinds.length)
      if (products.has(kind)) inProducts += ms
    }
    return inProducts
  })
  const outside = (wholeMs: readonly number[]): number[] =>
    wholeMs.map((whole, i) => 100 * (1 - (productsMs[i] as number) / whole))
  const most = [...all].toSorted((a, b) => b[1] - a[1]).slice(0, kindsMax)
  return {
    stepMsMedian: median(plainMs),
    outsidePercentMedian: median(outside(plainMs)),
    outsidePercentMin: Math.min(...outside(plainMs)),
    outsidePercentMax: Math.max(...outside(plainMs)),
    profiledPercentMedian: median(outside(watchedMs)),
    most: most.map(([kind, ms]) => `${kind} ${ms.toFixed(0)} ms`).join(', '),
  }
}

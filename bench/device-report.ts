// What docs/benchmarks.md says of a GPU.
import type { Figures } from './machine.ts'
import { table, type Section } from './sections.ts'

const timesFaster = { timesFasterMedian: 'times faster', timesFasterMin: 'worst round', timesFasterMax: 'best round' }
const list = (figures: unknown): readonly Figures[] => (figures === undefined ? [] : ([figures].flat() as Figures[]))

/** Of `measureCuda`. */
export function cudaSections(figures: Readonly<Record<string, unknown>>): Section[] {
  const device = String(figures['device'])
  const named = (name: string): readonly Figures[] =>
    Object.entries(figures).flatMap(([key, value]) => (key.startsWith(name) ? list(value) : []))
  return [
    {
      heading: 'On an NVIDIA GPU: training',
      text: `
${device}. One optimizer step as one CUDA graph: 10 rows of 64 tokens, 32 of them targets, a prefix of 10; PEFT in bfloat16 in turn, on what it names. Then several trainings in one step beside one after the other, and a step of 16 rows
of 512 tokens, whose operations (products and attention, none counted twice) are a share of the most that products of large matrices reach in the same run.

${table({ model: 'model', form: 'form', stepMsMedian: 'step, ms', stepsPerSecond: 'steps/s', peftMsMedian: 'PEFT step, ms', peftDevice: 'on', ...timesFaster }, named('training'))}

${table({ trainings: 'trainings', form: 'form', togetherMs: 'together, ms', apartMs: 'one after the other, ms', ...timesFaster }, named('together'))}

${table({ model: 'model', form: 'form', stepMsMedian: 'step, ms', peftMsMedian: 'PEFT step, ms', ...timesFaster, teraflops: 'teraflops', peakTeraflops: 'peak, ours', peftPeakTeraflops: "peak, PyTorch's", shareOfPeak: 'share of the higher' }, named('large'))}`,
    },
    {
      heading: 'On an NVIDIA GPU: decoding',
      text: `
${device}. Steps of the session, each row with a prefix of 10 and a prompt of 32; the rate at which that reads the weights is a share of the memory's. Below, 64 new tokens
through the engine, in turn with PEFT in bfloat16, which plays one prefix at a time. Greedy.

${table({ rows: 'rows', form: 'form', stepMsMedian: 'step, ms', stepMsMin: 'fastest', tokensPerSecond: 'tokens/s', shareOfMemoryLimit: "share of the memory's limit" }, named('decoding'))}

${table({ model: 'model', rows: 'rows', form: 'form', tokensPerSecond: 'ours, tokens/s', peftTokensPerSecond: 'PEFT', peftDevice: 'on', ...timesFaster, peftSamePrefixTokensPerSecond: 'PEFT, same prefix', timesSamePrefixMedian: 'times that' }, named('generation'))}`,
    },
    {
      heading: 'On an NVIDIA GPU: kernels',
      text: `
${device}. Of one training step and of one decode step, bfloat16: how often each kernel runs, all its runs together, bytes that it must move, and operations of products.

${table({ step: 'step', kernel: 'kernel', count: 'runs', ms: 'ms', gigabytesPerSecond: 'GB/s', shareOfMemoryLimit: "share of the memory's limit", teraflops: 'teraflops' }, named('kernels'))}`,
    },
  ]
}

/** Of `measureWebgpu`. */
export function webgpuSections({ device, model, training, decoding }: Readonly<Record<string, unknown>>): Section[] {
  return [
    {
      heading: 'On a GPU through WebGPU',
      text: `
${String(device)}, ${String(model)}, float32, in turn with the CPU of the same machine. An optimizer step of 10 rows of 64 tokens, 32 of them targets, a prefix of 10; decode steps,
each row with a prefix of 10 and a prompt of 32.

${table({ what: 'on', stepMsMedian: 'training step, ms', stepsPerSecond: 'steps/s', ...timesFaster }, list(training))}

${table({ rows: 'rows', what: 'on', stepMsMedian: 'decode step, ms', tokensPerSecond: 'tokens/s', ...timesFaster }, list(decoding))}`,
    },
  ]
}

// The golden figures of the tiny GPT-2, as PyTorch computed them in float64 (see gpt2/README.md).
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { float32, int32, type Tensor } from '../../src/tensor/tensor.ts'
import type { Feeds } from '../../src/runtime/runtime.ts'

export interface GoldenTensor {
  readonly shape: readonly number[]
  readonly data: readonly number[]
}
type Group = Readonly<Record<string, GoldenTensor>>

export interface GoldenDecode {
  readonly prompt: readonly number[]
  readonly ids: readonly number[]
  readonly logits: GoldenTensor
}

export interface Gpt2Golden {
  readonly prefixLength: number
  readonly middle: number
  readonly optimizer: { readonly steps: number; readonly learningRate: number }
  readonly batch: {
    readonly lengths: readonly number[]
    readonly promptLengths: readonly number[]
    readonly tokens: GoldenTensor
    readonly positions: GoldenTensor
    readonly rows: readonly number[]
    readonly labels: readonly number[]
  }
  readonly prefix: Group
  readonly network: Group
  readonly expected: {
    readonly logits: GoldenTensor
    readonly tokenLosses: GoldenTensor
    readonly loss: { readonly sum: number; readonly mean: number }
    readonly gradients: { readonly sum: Group; readonly mean: Group }
    readonly reparametrized: {
      readonly keys: GoldenTensor
      readonly values: GoldenTensor
      readonly gradients: Group
      readonly training: { readonly losses: readonly number[]; readonly norms: readonly number[] }
    }
    readonly training: { readonly losses: readonly number[]; readonly norms: readonly number[]; readonly final: Group }
    readonly decode: { readonly prefix: readonly GoldenDecode[]; readonly bare: readonly GoldenDecode[] }
  }
  readonly options: {
    readonly smoothing: number
    readonly warmupSteps: number
    readonly weightDecay: number
    readonly clipNorm: number
    readonly accumulated: readonly (readonly number[])[]
    readonly inputs: GoldenTensor
    readonly infix: { readonly positions: GoldenTensor; readonly pastLengths: GoldenTensor }
    readonly rates: Readonly<Record<'linear' | 'cosine' | 'constant', readonly number[]>>
    readonly expected: {
      readonly smoothing: { readonly tokenLosses: GoldenTensor; readonly gradients: Group }
      readonly accumulated: { readonly losses: readonly number[]; readonly norms: readonly number[]; readonly final: Group }
      readonly embedding: {
        readonly keys: GoldenTensor
        readonly values: GoldenTensor
        readonly loss: number
        readonly gradients: Group
      }
      readonly infix: { readonly tokenLosses: GoldenTensor; readonly gradients: Group }
    }
  }
  readonly roundedLogits: { readonly float16: GoldenTensor; readonly bfloat16: GoldenTensor }
}

export const goldenFolder = 'test/golden/gpt2'
export const golden = JSON.parse(readFileSync(`${goldenFolder}/golden.json`, 'utf8')) as Gpt2Golden

export function toTensor({ shape, data }: GoldenTensor): Tensor {
  return float32(Float32Array.from(data), shape)
}

/** The batch as `batchFeeds` would lay it out; weights make the sum over a row's targets, mean over rows, or the mean. */
export function goldenFeeds(reduction: 'sum' | 'mean'): Feeds {
  const { tokens, positions, rows, labels } = golden.batch
  const weight = 1 / (reduction === 'sum' ? (tokens.shape[0] as number) : labels.length)
  return {
    tokens: int32(Int32Array.from(tokens.data), tokens.shape),
    positions: int32(Int32Array.from(positions.data), positions.shape),
    rows: int32(Int32Array.from(rows), [rows.length]),
    labels: int32(Int32Array.from(labels), [labels.length]),
    lossWeights: float32(new Float32Array(labels.length).fill(weight), [labels.length]),
    pastLengths: int32(Int32Array.of(golden.prefixLength), [1]),
  }
}

/** Largest difference, relative to the largest expected magnitude: one number to hold a threshold against. */
export function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  assert.equal(actual.length, expected.length)
  let difference = 0
  let magnitude = 0
  for (let i = 0; i < expected.length; i++) {
    difference = Math.max(difference, Math.abs((actual[i] as number) - (expected[i] as number)))
    magnitude = Math.max(magnitude, Math.abs(expected[i] as number))
  }
  return Number.isNaN(difference) ? Infinity : difference / magnitude
}

export function assertClose(name: string, actual: ArrayLike<number>, expected: ArrayLike<number>, tolerance: number): void {
  const error = relativeError(actual, expected)
  assert.ok(error <= tolerance, `${name} is off by ${error.toExponential(2)} of its largest value, allowed are ${tolerance}`)
}

// The golden figures of the tiny BART, as PyTorch computed them in float64 (see bart/README.md).
import { readFileSync } from 'node:fs'
import type { Decoding } from '../../src/engine/request.ts'
import type { PlaceName } from '../../src/model/segments.ts'
import type { EncodedExample } from '../../src/train/encode.ts'
import type { GoldenTensor } from './gpt2.ts'

type Group = Readonly<Record<string, GoldenTensor>>
interface Steps {
  readonly losses: readonly number[]
  readonly norms: readonly number[]
}

export interface GoldenText {
  readonly prefix: boolean
  readonly source: readonly number[]
  /** The best first; of greedy one. The end included. */
  readonly tokens: readonly (readonly number[])[]
}

export interface BartGolden {
  readonly prefixLength: number
  readonly middle: number
  readonly optimizer: { readonly steps: number; readonly learningRate: number }
  readonly batch: { readonly sources: readonly (readonly number[])[]; readonly targets: readonly (readonly number[])[] }
  readonly prefix: Readonly<Record<'keys' | 'values', GoldenTensor>>
  readonly network: Group
  readonly expected: {
    readonly logits: GoldenTensor
    readonly bareLogits: GoldenTensor
    readonly cross: GoldenTensor
    readonly tokenLosses: GoldenTensor
    readonly gradients: { readonly sum: Group; readonly mean: Group }
    readonly subsets: readonly {
      readonly places: readonly PlaceName[]
      readonly tokenLosses: GoldenTensor
      readonly gradients: Group
    }[]
    readonly reparametrized: {
      readonly keys: GoldenTensor
      readonly values: GoldenTensor
      readonly gradients: Group
      readonly training: Steps
    }
    readonly training: Steps & { readonly final: Group }
  }
  readonly otherLogits: GoldenTensor
  readonly generations: readonly {
    readonly forced: boolean
    readonly decoding: Partial<Decoding> & { readonly minNewTokens?: number }
    readonly maxNewTokens: number
    readonly rows: readonly GoldenText[]
  }[]
}

export const bartFolder = 'test/golden/bart'
export const bartGolden = JSON.parse(readFileSync(`${bartFolder}/golden.json`, 'utf8')) as BartGolden

/** The rows of the golden batch as the decoder's start token and teacher forcing have them. */
export const bartExamples: readonly EncodedExample[] = bartGolden.batch.sources.map((source, b) => {
  const targets = bartGolden.batch.targets[b] as readonly number[]
  return { source, tokens: [2, ...targets.slice(0, -1)], targets, promptLength: 1 }
})

// A lowered program: kernels in order with their arguments by name, and the memory they work on, still without addresses.
import { attentionSlots } from './kernels/attention.ts'
import { crossEntropyGradSlots, crossEntropySlots } from './kernels/cross-entropy-rows.ts'
import { elementwiseSlots } from './kernels/elementwise.ts'
import { layerNormGradSlots, scatterAddSlots, softmaxGradSlots } from './kernels/gradient-rows.ts'
import { gemmSlots } from './kernels/gemm-slots.ts'
import { productSlots } from './kernels/product.ts'
import { copySlots, gatherSlots, layerNormSlots, wordsSlots } from './kernels/rows.ts'
import { softmaxSlots } from './kernels/softmax-rows.ts'

/** A piece of memory. */
export class Storage {
  readonly bytes: number
  /** `arena` is reused by others once the last step that touches it is over; `fed` lies wherever the caller has it. */
  readonly kind: 'arena' | 'input' | 'output' | 'fed' | 'resident'
  /** Of an input. */
  readonly name: string | null
  /** Of what is resident; a program's addresses are below 2 ** 47. */
  readonly address: number
  first = Infinity
  last = -Infinity

  constructor(
    bytes: number,
    kind: Storage['kind'],
    { name = null, address = 0 }: { name?: string | null; address?: number } = {},
  ) {
    this.bytes = bytes
    this.kind = kind
    this.name = name
    this.address = address
  }
}

/** Numbers of 4 bytes, or rows of them `stride` apart, in a storage. */
export interface View {
  readonly storage: Storage
  /** In numbers. */
  readonly offset: number
  /** From one row of the last axis to the next, in numbers. */
  readonly stride: number
}

/** A whole number, a float32, or where something lies; null: nowhere. */
export type Argument = number | { readonly float: number } | { readonly place: Pick<View, 'storage' | 'offset'> } | null

/** What each kernel wants. */
export const kernelSlots = {
  gemm: gemmSlots,
  gemmByColumn: gemmSlots,
  product: productSlots,
  words: wordsSlots,
  layerNorm: layerNormSlots,
  gather: gatherSlots,
  copy: copySlots,
  attention: attentionSlots,
  gelu: elementwiseSlots,
  exactGelu: elementwiseSlots,
  add: elementwiseSlots,
  scale: elementwiseSlots,
  geluGrad: elementwiseSlots,
  exactGeluGrad: elementwiseSlots,
  layerNormGrad: layerNormGradSlots,
  scatterAdd: scatterAddSlots,
  softmaxRows: softmaxSlots,
  softmaxGradRows: softmaxGradSlots,
  crossEntropyRows: crossEntropySlots,
  crossEntropyGradRows: crossEntropyGradSlots,
} as const
export type KernelName = keyof typeof kernelSlots
export type Arguments<Name extends KernelName> = Readonly<Record<(typeof kernelSlots)[Name][number], Argument>>

export interface Step {
  readonly kernel: KernelName
  /** In the order of its slots. */
  readonly arguments: readonly Argument[]
  /** What it touches. */
  readonly storages: readonly Storage[]
  readonly chunks: number
}

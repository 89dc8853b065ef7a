// A lowered program: steps in order, and the memory they work on, still without addresses.
import assert from 'node:assert/strict'

/** A piece of device memory. Who plans gives it a place. */
export class Storage {
  readonly bytes: number
  /** `arena` is reused by others once the last step that touches it is over; the rest is not. */
  readonly kind: 'arena' | 'input' | 'output' | 'resident'
  /** Of the first byte. */
  address: bigint | null
  first = Infinity
  last = -Infinity

  constructor(bytes: number, kind: Storage['kind'], address: bigint | null = null) {
    this.bytes = bytes
    this.kind = kind
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

/** Where a kernel finds something; null: nowhere, which kernels take as not asked for. */
export type Place = { readonly storage: Storage; readonly offset: number } | null

export type KernelArgument =
  | { readonly place: Place }
  | { readonly int: number }
  | { readonly float: number }
  /** A struct of ints and floats, in this order. */
  | { readonly struct: Uint8Array }

/** How frozen matrices are held, and the numbers that meet in attention. */
export const forms = ['float32', 'bfloat16', 'float16'] as const
export type Form = (typeof forms)[number]

/** What attention's kernels are compiled for. */
export interface Heads {
  /** Numbers of one. */
  readonly headDim: number
  readonly form: Form
}

export interface KernelStep {
  readonly kind: 'kernel'
  /** The source is compiled once for each; null: for all. */
  readonly heads: Heads | null
  readonly name: string
  readonly grid: readonly [number, number, number]
  readonly threads: number
  readonly arguments: readonly KernelArgument[]
  /** Read and written, for whoever wants to know how near to the limit of the memory it runs. */
  readonly bytes: number
}

export interface PlacedFactor {
  readonly place: NonNullable<Place>
  readonly stride: number
  readonly type: 'float32' | 'bfloat16' | 'float16'
  readonly transposed: boolean
}

/** See `Product`. */
export interface ProductStep {
  readonly kind: 'product'
  readonly rows: number
  readonly columns: number
  readonly inner: number
  readonly left: PlacedFactor
  readonly right: PlacedFactor
  readonly out: View
  readonly added: View | null
  readonly bias: NonNullable<Place> | null
  readonly gelu: boolean
  /** By which the product of the factors alone is multiplied. */
  readonly scale: number
}

export type Step = KernelStep | ProductStep

export function storagesOf(step: Step): Storage[] {
  if (step.kind === 'product') {
    const { left, right, out, added, bias } = step
    return [left.place, right.place, out, added, bias].flatMap((place) => (place === null ? [] : [place.storage]))
  }
  return step.arguments.flatMap((each) => ('place' in each && each.place !== null ? [each.place.storage] : []))
}

/** Numbers take 4 bytes; what is rounded to 2 always begins at the beginning. Nowhere is 0. */
export function addressOf(at: Place): bigint {
  if (at === null) return 0n
  const { address } = at.storage
  assert.ok(address !== null, 'a storage without a place')
  return address + BigInt(4 * at.offset)
}

/** 32-bit integers as the bytes of a struct. */
export const intStruct = (values: readonly number[]): Uint8Array => new Uint8Array(Int32Array.from(values).buffer)

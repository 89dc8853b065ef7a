// The passes over a row of logits in vector instructions: largest logits and sums of exponentials, block by block.
import { addFloat, addInteger, four, get, integer, loopWhileBelow, set, storeFloat } from './vector-code.ts'
import type { Code, FunctionCode, Type } from './vector-code.ts'

/** Tokens that are looked at together: what is known of a block spares looking at each. */
export const blockLength = 64
const blockBytes = 4 * blockLength
const vectorBytes = 16

/** Parameters are byte addresses, `end` that of the row's end; the others are where one float32 a block is written. */
export interface RowKernels {
  tops(row: number, end: number, tops: number): void
  /** Σ 2^((logit - largest) · scale) */
  weights(row: number, end: number, weights: number, largest: number, scale: number): void
  /** The same, and Σ weight · log₂ weight. */
  moments(row: number, end: number, weights: number, largest: number, scale: number, moments: number): void
}

/** Of two: below, 2^x has no float32 of full precision. */
const exponentMin = -126
/** Added to a float32 of less than 2²², it leaves the nearest whole number in the last bits. */
const rounder = 1.5 * 2 ** 23
/** 2^f = Σ cᵢ·fⁱ for f from -½ to ½, to 1e-7: the least largest relative error with c₀ = 1 (Lawson's algorithm). */
const series = [
  1, 0.6931469775978856, 0.24022242083388415, 0.05550733744272787, 0.009671512768457274, 0.001326472726635844,
] as const

const [row, end, target, largest, scale, momentTarget] = [0, 1, 2, 3, 4, 5] as const

/** `body` for each block, in which `pass` goes on by `vectors`; `variable` holds the block's end. */
function eachBlock(variable: number, before: Code, pass: Code, vectors: number, after: Code): Code {
  const block = [
    ...set(variable, addInteger(get(row), integer(blockBytes))),
    ...before,
    ...loopWhileBelow(
      [...pass, ...set(row, addInteger(get(row), integer(vectors * vectorBytes)))],
      get(row),
      get(variable),
    ),
    ...after,
    ...set(target, addInteger(get(target), integer(4))),
  ]
  return loopWhileBelow(block, get(row), get(end))
}

/** Four vectors in turn, as each comparison waits for the one before. */
function tops(): FunctionCode {
  const [stop, ...best] = [3, 4, 5, 6, 7] as const
  const [a, b, c, d] = best
  const before = best.flatMap((each) => set(each, four.constant(-Infinity)))
  const pass = best.flatMap((each, i) => set(each, four.larger(get(each), four.load(get(row), i * vectorBytes))))
  const after = [
    ...set(a, four.larger(four.larger(get(a), get(b)), four.larger(get(c), get(d)))),
    ...set(a, four.larger(get(a), four.shuffle(get(a), [2, 3, 0, 1]))),
    ...set(a, four.larger(get(a), four.shuffle(get(a), [1, 0, 3, 2]))),
    ...storeFloat(get(target), four.lane(get(a), 0)),
  ]
  const body = eachBlock(stop, before, pass, best.length, after)
  return { name: 'tops', parameters: ['i32', 'i32', 'i32'], variables: ['i32', ...vectors(best.length)], body }
}

/**
 * 2^x = 2^n · 2^f with n the nearest whole number: 2^f by its series, and n added to the bits of its exponent. Constants lie in
 * variables, as the compiler would make them anew for each vector.
 */
function weights(withMoments: boolean): FunctionCode {
  const parameters: Type[] = ['i32', 'i32', 'i32', 'f32', 'f32']
  if (withMoments) parameters.push('i32')
  const stop = parameters.length
  const [top, factor, sum, moment, x, f, n, p, first] = Array.from(
    { length: 9 },
    (_, i) => stop + 1 + i,
  ) as unknown as [...[number, number, number, number, number, number, number, number, number]]
  const constants = [exponentMin, rounder, ...series]
  const [minimum, round, ...terms] = constants.map((_, i) => get(first + i)) as [Code, Code, ...Code[]]
  const exponential = [
    ...set(n, four.add(get(x), round)),
    ...set(f, four.subtract(get(x), four.subtract(get(n), round))),
    ...set(
      p,
      terms.reduceRight((higher, term) => four.add(four.multiply(higher, get(f)), term)),
    ),
    ...set(p, four.addBits(get(p), four.shiftBits(get(n), 23))),
  ]
  const pass = [0, vectorBytes].flatMap((offset) => [
    ...set(x, four.multiply(four.subtract(four.load(get(row), offset), get(top)), get(factor))),
    ...set(x, four.larger(minimum, get(x))),
    ...exponential,
    ...set(sum, four.add(get(sum), get(p))),
    ...(withMoments ? set(moment, four.add(get(moment), four.multiply(get(p), get(x)))) : []),
  ])
  const zero = four.constant(0)
  const before = [...set(sum, zero), ...(withMoments ? set(moment, zero) : [])]
  const momentAfter = [
    ...storeFloat(get(momentTarget), acrossLanes(moment)),
    ...set(momentTarget, addInteger(get(momentTarget), integer(4))),
  ]
  const after = [...storeFloat(get(target), acrossLanes(sum)), ...(withMoments ? momentAfter : [])]
  const body = [
    ...set(top, four.splat(get(largest))),
    ...set(factor, four.splat(get(scale))),
    ...constants.flatMap((value, i) => set(first + i, four.constant(value))),
    ...eachBlock(stop, before, pass, 2, after),
  ]
  const variables: readonly Type[] = ['i32', ...vectors(first - stop - 1 + constants.length)]
  return { name: withMoments ? 'moments' : 'weights', parameters, variables, body }
}

function acrossLanes(vector: number): Code {
  const [a, b, c, d] = [0, 1, 2, 3].map((lane) => four.lane(get(vector), lane)) as [Code, Code, Code, Code]
  return addFloat(addFloat(a, b), addFloat(c, d))
}

const vectors = (count: number): Type[] => Array.from({ length: count }, () => 'v128')

/** Functions of `RowKernels`. */
export const rowKernels: readonly FunctionCode[] = [tops(), weights(false), weights(true)]

// WebAssembly instructions as bytes: the 128-bit vectors of the processor, for which JavaScript has no words.

/** Bytes of one or more instructions. What is an argument of another goes before it, as on a stack. */
export type Code = readonly number[]

/** Bytes of a parameter or variable are its type's. */
export const types = { i32: 0x7f, f32: 0x7d, v128: 0x7b } as const
export type Type = keyof typeof types

export interface FunctionCode {
  readonly name: string
  readonly parameters: readonly Type[]
  /** Further variables, numbered behind the parameters; zero at first. */
  readonly variables: readonly Type[]
  readonly body: Code
}

const float32 = (value: number): Code => [...new Uint8Array(Float32Array.of(value).buffer)]
const vector = (opcode: number, ...operands: readonly Code[]): Code => [...operands.flat(), 0xfd, ...unsigned(opcode)]
const binary =
  (opcode: number) =>
  (a: Code, b: Code): Code =>
    vector(opcode, a, b)

export const get = (variable: number): Code => [0x20, ...unsigned(variable)]
export const set = (variable: number, value: Code): Code => [...value, 0x21, ...unsigned(variable)]
export const integer = (value: number): Code => [0x41, ...signed(value)]
export const addInteger = (a: Code, b: Code): Code => [...a, ...b, 0x6a]
export const storeFloat = (address: Code, value: Code): Code => [...address, ...value, 0x38, 2, 0]
export const addFloat = (a: Code, b: Code): Code => [...a, ...b, 0x92]

/** Goes round again while `a` is below `b`, both unsigned. */
export const loopWhileBelow = (body: Code, a: Code, b: Code): Code =>
  [0x03, 0x40, ...body, ...a, ...b, 0x49, 0x0d, 0, 0x0b] as const

/** Vectors of four float32. */
export const four = {
  load: (address: Code, offset: number): Code => [...address, 0xfd, 0, 4, ...unsigned(offset)],
  constant: (value: number): Code => [0xfd, 0x0c, ...[0, 1, 2, 3].flatMap(() => float32(value))],
  splat: (value: Code): Code => vector(0x13, value),
  lane: (value: Code, lane: number): Code => [...vector(0x1f, value), lane],
  add: binary(0xe4),
  subtract: binary(0xe5),
  multiply: binary(0xe6),
  /** b where a < b, else a: of a number and NaN, given second, the number. */
  larger: binary(0xeb),
  /** Lanes in another order. */
  shuffle: (value: Code, lanes: readonly number[]): Code => [
    ...value,
    ...value,
    0xfd,
    0x0d,
    ...lanes.flatMap((lane) => [0, 1, 2, 3].map((byte) => 4 * lane + byte)),
  ],
  /** Of the bits as integers. */
  addBits: binary(0xae),
  shiftBits: (value: Code, bits: number): Code => vector(0xab, value, integer(bits)),
} as const

/** `\0asm`, version 1. */
const preamble = [0, 0x61, 0x73, 0x6d, 1, 0, 0, 0]

/** A module that works on one memory, `host.memory`, of any size, and exports its functions under their names. */
export function encodeModule(functions: readonly FunctionCode[]): Uint8Array<ArrayBuffer> {
  const signatures = functions.map(({ parameters }) => [0x60, ...list(parameters.map((type) => [types[type]])), 0])
  const memory = [...text('host'), ...text('memory'), 2, 0, 1]
  const exports = functions.map(({ name }, i) => [...text(name), 0, ...unsigned(i)])
  const bodies = functions.map(({ variables, body }) => {
    const code = [...list(variables.map((type) => [1, types[type]])), ...body, 0x0b]
    return [...unsigned(code.length), ...code]
  })
  return Uint8Array.from([
    ...preamble,
    ...section(1, list(signatures)),
    ...section(2, list([memory])),
    ...section(3, list(functions.map((_, i) => unsigned(i)))),
    ...section(7, list(exports)),
    ...section(10, list(bodies)),
  ])
}

const section = (id: number, content: Code): Code => [id, ...unsigned(content.length), ...content]
const list = (items: readonly Code[]): Code => [...unsigned(items.length), ...items.flat()]

function text(value: string): Code {
  const bytes = new TextEncoder().encode(value)
  return [...unsigned(bytes.length), ...bytes]
}

/** LEB128, seven bits to a byte. */
function unsigned(value: number): Code {
  return value < 0x80 ? [value] : [(value & 0x7f) | 0x80, ...unsigned(value >>> 7)]
}

function signed(value: number): Code {
  if (value >= -0x40 && value < 0x40) return [value & 0x7f]
  return [(value & 0x7f) | 0x80, ...signed(value >> 7)]
}

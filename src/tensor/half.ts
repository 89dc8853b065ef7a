// Half-precision numbers widened to float32, which holds every one of them exactly.

/** IEEE 754 binary16: 1 sign bit, 5 exponent bits, 10 fraction bits. */
export function widenFloat16(halves: Uint16Array): Float32Array {
  float16Table ??= buildFloat16Table()
  const table = float16Table
  const wide = new Float32Array(halves.length)
  for (let i = 0; i < halves.length; i++) wide[i] = table[halves[i] as number] as number
  return wide
}

/** bfloat16 is the upper half of a float32. */
export function widenBfloat16(halves: Uint16Array): Float32Array {
  const bits = new Uint32Array(halves.length)
  for (let i = 0; i < halves.length; i++) bits[i] = (halves[i] as number) << 16
  return new Float32Array(bits.buffer)
}

/** All 65,536 of them (256 KiB), made at first use: a look-up is several times faster than the arithmetic. */
let float16Table: Float32Array | undefined

function buildFloat16Table(): Float32Array {
  const table = new Float32Array(1 << 16)
  for (let half = 0; half < table.length; half++) table[half] = float16Value(half)
  return table
}

function float16Value(half: number): number {
  const sign = half & 0x8000 ? -1 : 1
  const exponent = (half >> 10) & 0x1f
  const fraction = half & 0x3ff
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN
  if (exponent === 0) return sign * fraction * 2 ** -24 // Zero and the subnormal numbers.
  return sign * (1024 + fraction) * 2 ** (exponent - 25)
}

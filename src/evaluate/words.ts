// Words as Python's str.split finds them, which the metrics' reference implementations build on.

/** What Python's str.split takes for white space, the four ASCII separators included. */
export const whiteSpace = new RegExp(`[\\p{White_Space}${String.fromCodePoint(0x1c, 0x1d, 0x1e, 0x1f)}]+`, 'u')

export function splitWords(text: string): string[] {
  return text.split(whiteSpace).filter((word) => word !== '')
}

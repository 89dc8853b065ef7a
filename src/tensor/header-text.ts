// The text of a safetensors header made into a plain value, refusing what JSON.parse lets through.
import { SafetensorsError } from './safetensors-error.ts'

/** An object of objects of lists: a header has no reason to nest deeper. */
const DEPTH_MAX = 3
const QUOTE = 0x22
const COMMA = 0x2c
const COLON = 0x3a
const OPEN_BRACKET = 0x5b
const BACKSLASH = 0x5c
const CLOSE_BRACKET = 0x5d
const OPEN_BRACE = 0x7b
const CLOSE_BRACE = 0x7d

/** `keysMax` holds for every object in it. */
export function parseHeaderText(bytes: Uint8Array, keysMax: number): Record<string, unknown> {
  const text = decode(bytes)
  if (text[0] !== '{') {
    throw new SafetensorsError(
      'header_not_object',
      `the header begins with ${JSON.stringify(text[0] ?? '')}, not with "{"`,
    )
  }
  checkKeys(text, keysMax)
  return parse(text) as Record<string, unknown> // It begins with '{', so whatever parses is an object.
}

function decode(bytes: Uint8Array): string {
  try {
    // A byte order mark is kept: the first character must be '{', nothing else.
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch (cause) {
    throw new SafetensorsError('header_not_utf8', `the header (${bytes.length} bytes) is not valid UTF-8`, { cause })
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new SafetensorsError('header_not_json', `the header is not JSON: ${reason.slice(0, 200)}`, { cause })
  }
}

/**
 * JSON.parse keeps the last of two equal keys without a word, so two readers could see two different files in one.
 * One pass over the text, before anything is built from it: depth, number of keys, keys met twice. Text that is
 * not JSON may pass here; it is refused afterwards.
 */
function checkKeys(text: string, keysMax: number): void {
  const open: (Set<string> | null)[] = [] // One entry for each open object (its keys so far) or list (null).
  let keyExpected = false
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === OPEN_BRACE || code === OPEN_BRACKET) {
      open.push(code === OPEN_BRACE ? new Set() : null)
      if (open.length > DEPTH_MAX) {
        throw new SafetensorsError('entry_invalid', `the header nests deeper than ${DEPTH_MAX} levels`)
      }
      keyExpected = code === OPEN_BRACE
    } else if (code === CLOSE_BRACE || code === CLOSE_BRACKET) {
      open.pop()
      keyExpected = false
    } else if (code === COMMA) {
      keyExpected = open.at(-1) instanceof Set
    } else if (code === COLON) {
      keyExpected = false
    } else if (code === QUOTE) {
      const end = stringEnd(text, i)
      const keys = open.at(-1)
      if (keyExpected && keys) addKey(keys, parse(text.slice(i, end + 1)) as string, keysMax)
      keyExpected = false
      i = end
    }
  }
}

function addKey(keys: Set<string>, key: string, keysMax: number): void {
  if (keys.has(key)) {
    throw new SafetensorsError('duplicate_key', `the key ${quote(key)} stands twice in one object of the header`)
  }
  if (keys.size === keysMax) {
    throw new SafetensorsError('too_many_tensors', `an object of the header has more than ${keysMax} keys`)
  }
  keys.add(key)
}

/** Index of the quote that closes the string opened at `start`. */
function stringEnd(text: string, start: number): number {
  for (let i = start + 1; i < text.length; i++) {
    const code = text.charCodeAt(i)
    if (code === BACKSLASH) i++
    else if (code === QUOTE) return i
  }
  throw new SafetensorsError('header_not_json', `the header is not JSON: a string opened at ${start} is never closed`)
}

/** A name from outside, short enough to be shown and with its control characters escaped. */
export function quote(name: string): string {
  return JSON.stringify(name.length > 80 ? `${name.slice(0, 80)}…` : name)
}

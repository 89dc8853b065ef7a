// What a key may look like, so that it is a safe file name and a plain S3 key at once.
import assert from 'node:assert/strict'

const keyCharactersMax = 512
const segmentCharactersMax = 128
const segmentPattern = /^[A-Za-z0-9._-]+$/

/** Keys are made by the service, never taken from a client as they are: a bad one is a bug. */
export function checkKey(key: string): void {
  assert.ok(key.length <= keyCharactersMax, `a key has at most ${keyCharactersMax} characters, not ${key.length}`)
  for (const segment of key.split('/')) {
    const valid = segment.length <= segmentCharactersMax && segmentPattern.test(segment) && !/^\.\.?$/.test(segment)
    assert.ok(valid, `the key ${JSON.stringify(key)} has the bad segment ${JSON.stringify(segment)}`)
  }
}

/** A path to list is the beginning of a key: nothing, or valid characters that may end anywhere. */
export function checkPath(path: string): void {
  assert.ok(path.length <= keyCharactersMax, `a path has at most ${keyCharactersMax} characters, not ${path.length}`)
  assert.match(path, /^[A-Za-z0-9._/-]*$/, 'a path to list has the characters of a key')
  assert.ok(!path.startsWith('/') && !/(^|\/)\.\.?\//.test(path), `the path ${JSON.stringify(path)} leaves its place`)
}

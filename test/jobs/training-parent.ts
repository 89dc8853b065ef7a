// Stands between a test and a training process, to be killed: it tells the test whom it started, and waits.
import { fork } from 'node:child_process'

if (process.argv[2] === 'child') {
  process.argv[2] = new URL('../../src/jobs/training-process.js', import.meta.url).href
  await import('../../src/jobs/child-process.ts')
  process.send?.('loaded')
  // As a training in the middle of a step would.
  setInterval(() => undefined, 1_000)
} else {
  const child = fork(new URL(import.meta.url), ['child'])
  child.once('message', () => process.send?.(child.pid))
}

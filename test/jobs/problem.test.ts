// Reasons of failure on their way through a process boundary and the queue.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { decodeProblem, encodeProblem, isExit, isFinal, problemOf } from '../../src/jobs/problem.ts'

test('code and detail come through the queue as they were', () => {
  const problem = problemOf(new ServiceError('input_too_long', 'example 3 has 2,000 tokens, the model takes 1,024'))
  assert.deepEqual(problem, { code: 'input_too_long', detail: 'example 3 has 2,000 tokens, the model takes 1,024' })
  assert.deepEqual(decodeProblem(encodeProblem(problem)), problem)
})

test('an error of another process is known by its properties', () => {
  const copy = Object.assign(new Error('too long'), { name: 'ServiceError', code: 'input_too_long' })
  assert.deepEqual(problemOf(copy), { code: 'input_too_long', detail: 'too long' })
  const foreign = Object.assign(new Error('no such file'), { code: 'ENOENT' })
  assert.deepEqual(problemOf(foreign), { code: 'engine_failed', detail: 'no such file' })
})

test('another run is not tried for what only the caller can mend', () => {
  for (const code of ['cancelled', 'dataset_not_found', 'examples_invalid', 'model_invalid', 'training_diverged']) {
    assert.ok(isFinal({ code, detail: '' }), code)
  }
  for (const code of ['engine_failed', 'queue_unavailable', 'store_full', 'store_unavailable']) {
    assert.ok(!isFinal({ code, detail: '' }), code)
  }
})

test('a child that went away is told from one that failed, and a kill comes with advice', () => {
  const killed = new Error('Unexpected exit code: null signal: SIGKILL')
  assert.ok(isExit(killed))
  assert.ok(!isExit(new Error('the loss is not finite')))
  assert.match(problemOf(killed).detail, /memory.*batchSize/)
  assert.match(problemOf(new Error('Unexpected exit code: 7 signal: null')).detail, /exit code 7/)
})

test('a training that ran out of memory is told so, however the word came, and what is no want of memory is not', () => {
  for (const text of [
    'Unexpected exit code: null signal: SIGKILL',
    'Unexpected exit code: null signal: SIGABRT',
    'Unexpected exit code: 134 signal: null',
    'Array buffer allocation failed',
    'Non-zero status code returned while running Gemm node: std::bad_alloc',
    'Failed to allocate memory for requested buffer of size 412876800',
    'Worker terminated due to reaching memory limit: JS heap out of memory',
  ]) {
    const { code, detail } = problemOf(new Error(text))
    assert.equal(code, 'engine_failed')
    assert.match(detail, /memory.*smaller batchSize/, text)
  }
  for (const text of ['Unexpected exit code: 1 signal: null', 'the weights cannot be allocated to a device'])
    assert.doesNotMatch(problemOf(new Error(text)).detail, /batchSize/)
})

test('a reason that is not ours is passed on in its words, a long one is cut', () => {
  assert.deepEqual(decodeProblem('{"code":7}'), { code: 'engine_failed', detail: '{"code":7}' })
  assert.deepEqual(decodeProblem('missing lock'), { code: 'engine_failed', detail: 'missing lock' })
  assert.equal(decodeProblem(encodeProblem({ code: 'store_full', detail: 'x'.repeat(9_999) })).detail.length, 2_000)
})

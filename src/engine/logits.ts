// What happens to a row of logits before a token is drawn: each step pure arithmetic, changing the row in place.
import assert from 'node:assert/strict'

/** The token with the largest logit, the lowest such token if there are several. */
export function argmax(logits: Float32Array): number {
  let best = -1
  let largest = -Infinity
  for (let i = 0; i < logits.length; i++) {
    const logit = logits[i] as number
    if (logit > largest) {
      largest = logit
      best = i
    }
  }
  assert.ok(best >= 0 && largest < Infinity, 'the model answered no finite logit')
  return best
}

/** log softmax(logits)[token], in nats. */
export function logProbability(logits: Float32Array, token: number): number {
  const largest = logits[argmax(logits)] as number
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - largest)
  return (logits[token] as number) - largest - Math.log(sum)
}

/** Divides the logits of tokens already seen, as in CTRL (Keskar et al. 2019, section 4.1); negative ones are multiplied. */
export function penalizeRepetition(logits: Float32Array, penalty: number, seen: Iterable<number>): void {
  for (const token of new Set(seen)) {
    const logit = logits[token] as number
    logits[token] = logit < 0 ? logit * penalty : logit / penalty
  }
}

/** Divides by `temperature`, and moves the largest logit to 0 so that nothing overflows; softmax does not mind. */
export function scaleTemperature(logits: Float32Array, temperature: number): void {
  const largest = logits[argmax(logits)] as number
  for (let i = 0; i < logits.length; i++) logits[i] = ((logits[i] as number) - largest) / temperature
}

/** Keeps the `k` largest logits; all that equal the last of them stay, so that the result does not hang on their order. */
export function keepTopK(logits: Float32Array, k: number): void {
  if (k >= logits.length) return
  const floor = nthLargest(logits, k)
  for (let i = 0; i < logits.length; i++) if ((logits[i] as number) < floor) logits[i] = -Infinity
}

/**
 * Keeps the smallest set of most probable tokens whose probabilities sum to `p` or more (nucleus sampling, Holtzman et
 * al. 2020). Of equal probabilities the lower token counts as more probable.
 */
export function keepTopP(logits: Float32Array, p: number): void {
  if (p >= 1) return
  const largest = logits[argmax(logits)] as number
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - largest)
  // Tokens below (1 - p) / vocabulary sum to less than 1 - p: the set lies among the others, and only they are sorted.
  const floor = largest + Math.log((sum * (1 - p)) / logits.length)
  const candidates: number[] = []
  for (let i = 0; i < logits.length; i++) if ((logits[i] as number) >= floor) candidates.push(i)
  candidates.sort((a, b) => (logits[b] as number) - (logits[a] as number) || a - b)

  let mass = 0
  let kept = 0
  const values = new Float32Array(candidates.length)
  while (kept < candidates.length && (kept === 0 || mass < p * sum)) {
    const logit = logits[candidates[kept] as number] as number
    values[kept] = logit
    mass += Math.exp(logit - largest)
    kept++
  }
  logits.fill(-Infinity)
  for (let i = 0; i < kept; i++) logits[candidates[i] as number] = values[i] as number
}

/** The token at which the cumulative softmax passes `uniform`, a number in [0, 1). */
export function draw(logits: Float32Array, uniform: number): number {
  let drawn = argmax(logits)
  const largest = logits[drawn] as number
  let sum = 0
  for (let i = 0; i < logits.length; i++) sum += Math.exp((logits[i] as number) - largest)
  assert.ok(Number.isFinite(sum), 'the model answered logits that are not numbers')
  let left = uniform * sum
  for (let i = 0; i < logits.length; i++) {
    const weight = Math.exp((logits[i] as number) - largest)
    if (weight === 0) continue
    drawn = i // The last token of any weight is the answer if rounding leaves a rest.
    left -= weight
    if (left < 0) break
  }
  return drawn
}

/** The n-th largest value (n from 1), by a heap of n with the smallest on top. */
function nthLargest(values: Float32Array, n: number): number {
  assert.ok(n >= 1 && n <= values.length)
  const heap = values.slice(0, n)
  for (let i = (n >> 1) - 1; i >= 0; i--) siftDown(heap, i)
  for (let i = n; i < values.length; i++) {
    if ((values[i] as number) <= (heap[0] as number)) continue
    heap[0] = values[i] as number
    siftDown(heap, 0)
  }
  return heap[0] as number
}

function siftDown(heap: Float32Array, from: number): void {
  const value = heap[from] as number
  let parent = from
  for (;;) {
    let child = 2 * parent + 1
    if (child >= heap.length) break
    if (child + 1 < heap.length && (heap[child + 1] as number) < (heap[child] as number)) child++
    if ((heap[child] as number) >= value) break
    heap[parent] = heap[child] as number
    parent = child
  }
  heap[parent] = value
}

// What the routes of OpenAI's interface share with the native ones.
import type { Generations } from '../generations.ts'
import type { Metrics } from '../metrics.ts'
import type { Observations } from '../request-log.ts'
import type { Streams } from '../streams.ts'

export interface Shared {
  readonly generations: Generations
  readonly streams: Streams
  readonly metrics: Metrics
  readonly observations: Observations
}

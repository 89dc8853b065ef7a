// An evaluation of small numbers, newer than the one made before it.
import { createJobId } from '../../src/jobs/job.ts'
import type { Evaluation } from '../../src/prefix/evaluations.ts'

export function makeEvaluation(changes: Partial<Evaluation> = {}): Evaluation {
  return {
    jobId: createJobId(),
    prefixId: 'pfx_1',
    createdAt: '2026-11-24T08:00:00.000Z',
    datasetId: 'ds_1',
    examples: 1,
    references: 2,
    skipped: 0,
    maxNewTokens: 64,
    seed: 1,
    decoding: { strategy: 'greedy' },
    loss: 1.5,
    prefix: { metrics: { bleu: 40 } },
    bare: { metrics: { bleu: 1 } },
    fewShot: { metrics: { bleu: 10 }, promptExamples: 3, promptExamplesMean: 2.5 },
    samples: [{ input: 'a', references: ['b', 'c'], prefix: 'b', bare: null, fewShot: 'd' }],
    ...changes,
  }
}

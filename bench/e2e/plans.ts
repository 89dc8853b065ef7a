// The trainings that make up the study, each with all its options, in the order in which they are run.
import { trainingDefaults, type TrainingOptions } from '../../src/train/options.ts'

export type Study = 'full' | 'curve' | 'length' | 'variant' | 'start'

export interface Plan {
  /** Names it in the results. */
  readonly id: string
  readonly study: Study
  /** Trained on so many, the first of the corpus. */
  readonly examples: number
  readonly options: TrainingOptions
}

/** Near the service's own for this model; the same for every prefix and infix, whatever its length. */
const rate = 2e-3
/**
 * Input embeddings have no network between them and the optimizer, so they have a rate of their own: of 0.003, 0.01, 0.03, 0.1 and
 * 0.3 the one with the least held-out loss after 45 steps on the ablations' examples.
 */
export const embeddingRate = 0.1

/** Chosen already, so that another choice of defaults changes nothing here. */
const common: TrainingOptions = {
  ...trainingDefaults,
  prefixLength: 10,
  batchSize: 10,
  accumulation: 1,
  learningRate: rate,
  warmupSteps: 0,
  schedule: 'linear',
  variant: 'prefix',
  reparametrization: 512,
  initialization: 'text:table to text',
  lossReduction: 'sum',
  seed: 1,
}

/** The number of examples on which options are compared. */
export const ablationExamples = 500

/** 100 up to 100 examples, then doubled with each fivefold of examples: more to learn from takes longer, but not in proportion. */
function stepsFor(examples: number): number {
  return Math.round(100 * Math.max(1, examples / 100) ** (Math.log(2) / Math.log(5)))
}

/** One pass over all of the examples. */
export function fullPlan(examples: number): Plan {
  return { id: 'full', study: 'full', examples, options: { ...common, epochs: 1, steps: null, batchSize: 20 } }
}

/** Smaller trainings, the most telling first. */
export function smallPlans(): Plan[] {
  return [
    basePlan,
    ...[50, 100, 1000].map(point),
    ...[1, 5, 20, 40].map(ofLength),
    infix(10),
    embedding(10),
    embedding(1),
    infix(1),
    ablation('start/random', 'start', { initialization: 'random' }),
    ...startingWords.map((words) => ablation(`start/${words}`, 'start', { initialization: `text:${words}` })),
    ofLength(2),
    point(5000),
  ]
}

/** The prefix that the others differ from in one thing each; it is a point of the curve too. */
export const basePlan = ofLength(10)

/** Of a related task, of the subject, of neither. */
export const startingWords = ['summarize', 'restaurant', 'elephant']

function point(examples: number): Plan {
  return { id: `curve/${examples}`, study: 'curve', examples, options: { ...common, steps: stepsFor(examples) } }
}

function ofLength(prefixLength: number): Plan {
  return ablation(`length/${prefixLength}`, 'length', { prefixLength })
}

function infix(prefixLength: number): Plan {
  return ablation(`infix/${prefixLength}`, 'variant', { prefixLength, variant: 'infix' })
}

function embedding(prefixLength: number): Plan {
  const own = { variant: 'embedding', reparametrization: 0, learningRate: embeddingRate } as const
  return ablation(`embedding/${prefixLength}`, 'variant', { prefixLength, ...own })
}

function ablation(id: string, study: Study, options: Partial<TrainingOptions>): Plan {
  const steps = stepsFor(ablationExamples)
  return { id, study, examples: ablationExamples, options: { ...common, steps, ...options } }
}

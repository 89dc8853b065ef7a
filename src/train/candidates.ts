// What is worth trying where options were left open: rates and forms first, then lengths and beginnings around the best.
import type { ModelConfig } from '../model/config.ts'
import { promptOf } from '../prefix/template.ts'
import type { ChosenOptions, TrainingOptions } from './options.ts'
import { reparametrizationDefault, usualRate, type TrainingPlan } from './plan.ts'
import type { PreparedData } from './run.ts'

/**
 * Around the usual rate of a form: a rate that is off by less costs little. Few examples want large rates for keys and values
 * trained directly, and a network small ones.
 */
const rateFactors = { direct: [1 / 3, 1, 3, 9], network: [1 / 3, 1] }
/** Prefix lengths beside the usual one, in virtual tokens. */
const otherLengths = [5, 20]
/** Words taken from an example for a prefix to start from. */
const wordsMax = 24

/** Forms of the prefix, each with some rates; where both are given there is one, and nothing to choose. */
export function candidatesFor(
  asked: TrainingOptions,
  plan: TrainingPlan,
  { width }: Pick<ModelConfig, 'width'>,
  { from }: Pick<PreparedData, 'from'>,
): ChosenOptions[] {
  const { prefixLength, initialization } = plan
  const isFormGiven = asked.reparametrization !== null || plan.variant === 'embedding' || from !== null
  const forms = isFormGiven ? [plan.reparametrization] : [0, reparametrizationDefault]
  return forms.flatMap((reparametrization) => {
    const usual = usualRate(width, reparametrization)
    const factors = rateFactors[reparametrization === 0 ? 'direct' : 'network']
    const rates = asked.learningRate === null ? factors.map((factor) => factor * usual) : [asked.learningRate]
    return rates.map((learningRate) => ({ prefixLength, learningRate, reparametrization, initialization }))
  })
}

/** The best of those with another length or another beginning. Without held-out examples nothing would speak for a shorter one. */
export function variantsOf(
  best: ChosenOptions,
  asked: TrainingOptions,
  { positionsMax }: Pick<ModelConfig, 'positionsMax'>,
  { from, heldOut, encoded, examples, template }: PreparedData,
): ChosenOptions[] {
  if (from !== null || heldOut.length === 0) return []
  const longest = encoded.reduce((max, { tokens }) => Math.max(max, tokens.length), 0)
  const lengths = asked.prefixLength === null ? otherLengths : []
  const beginnings =
    asked.initialization === null ? ['random', `text:${wordsOf(template, examples[0]?.input ?? '')}`] : []
  return [
    ...lengths.filter((length) => longest + length <= positionsMax).map((prefixLength) => ({ ...best, prefixLength })),
    ...beginnings.map((initialization) => ({ ...best, initialization })),
  ]
}

/** The first words of a prompt: they are of the task, whatever it is. */
function wordsOf(template: string, input: string): string {
  const words = promptOf(template, input).replaceAll('<|endoftext|>', ' ').split(/\s+/).filter(Boolean)
  return words.slice(0, wordsMax).join(' ')
}

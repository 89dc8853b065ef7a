// Opens trainings: options that were left open are chosen first, by trying some of them side by side.
import { candidatesFor, variantsOf } from './candidates.ts'
import { choiceOf } from './checkpoint.ts'
import { ChoosingRun } from './choosing.ts'
import type { ChosenOptions, TrainingData, TrainingOptions, TrainingRun } from './options.ts'
import { planTraining, prefixLengthDefault } from './plan.ts'
import { openTrainer, prepareData, type TrainerParts } from './run.ts'

export type { TrainerParts } from './run.ts'

/**
 * Opens a training, from its beginning or from a checkpoint of the same training.
 * Throws `examples_invalid`, `input_too_long`, `invalid_request`, `prefix_model_mismatch` for a prefix that it cannot start
 * from, or `prefix_invalid` for an unusable checkpoint.
 */
export async function openTraining(
  parts: TrainerParts,
  data: TrainingData,
  options: TrainingOptions,
  checkpoint: Uint8Array | null,
): Promise<TrainingRun> {
  const choice = checkpoint && choiceOf(checkpoint)
  const asked = choice === null ? options : { ...options, ...choice.chosen }
  const prepared = prepareData(parts, data, asked.prefixLength ?? prefixLengthDefault)
  const plan = planTraining(asked, parts.model, prepared.encoded, data.from !== null)
  if (checkpoint !== null) return openTrainer(parts, prepared, plan, checkpoint)
  const candidates = candidatesFor(asked, plan, parts.model.config, prepared)
  const [first] = candidates as [ChosenOptions]
  const isOpen = candidates.length > 1 || variantsOf(first, asked, parts.model.config, prepared).length > 0
  return isOpen ? new ChoosingRun(parts, prepared, asked, plan, candidates) : openTrainer(parts, prepared, plan, null)
}

// Choices of tokens from logits that the host has: what a decode step does behind its own, for checks.
import { GraphBuilder } from '../../graph/builder.ts'
import { makeGraph } from '../../graph/graph.ts'
import type { ChosenToken, TokenChoice } from '../runtime.ts'
import { Executable } from './executable.ts'
import { lower } from './lower.ts'
import { appendChoice, changesInput, changesRoom, choicesInput, chosenToken } from './lower-choice.ts'
import { logprobsOutput, packedChanges, packedChoices, tokensOutput } from './lower-choice.ts'
import type { ProgramParts } from './executable-cache.ts'
import { Storage } from './steps.ts'

/** `logits`: [choices.length, vocabulary]. */
export function chooseTokens(
  { device, checked }: ProgramParts,
  logits: Float32Array,
  choices: readonly TokenChoice[],
): ChosenToken[] {
  const [rows, vocabulary] = [choices.length, logits.length / choices.length]
  const g = new GraphBuilder()
  const graph = makeGraph({ same: g.mul(g.input('logits', [rows, vocabulary]), g.constant(1)) })
  const same = new Storage(4 * rows * vocabulary, 'arena')
  const weights = { address: () => 0n }
  const options = { form: 'float32', bindings: new Map(), weights, kept: new Map([['same', same]]) } as const
  const room = changesRoom(choices)
  const lowered = lower(graph, options, (l) =>
    appendChoice(l, { storage: same, offset: 0, stride: vocabulary }, rows, vocabulary, room),
  )
  const executable = new Executable(device, lowered, checked)
  const feeds: Record<string, Int32Array | Float32Array> = {
    logits,
    [choicesInput]: packedChoices(choices),
    [changesInput]: packedChanges(choices, room),
  }
  const fetched = executable.execute((name) => feeds[name] as Int32Array | Float32Array)
  executable.dispose()
  const tokens = new Int32Array(fetched, executable.offsetOf(tokensOutput), rows)
  const logprobs = new Float32Array(fetched, executable.offsetOf(logprobsOutput), rows)
  return choices.map((_, row) => chosenToken(tokens, logprobs, row))
}

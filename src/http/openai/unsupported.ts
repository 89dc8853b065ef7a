// Fields of OpenAI's completions that ask for what this engine does not do: taken where they ask for nothing, else refused by name.
import type { CompletionBody } from './completion-schemas.ts'
import { notSupported } from './errors.ts'

interface Unsupported {
  readonly field: keyof CompletionBody
  readonly asks: (body: CompletionBody) => boolean
  readonly reason: string
}

const unsupported: readonly Unsupported[] = [
  { field: 'suffix', asks: ({ suffix }) => Boolean(suffix), reason: 'text is made after a prompt, never before one' },
  {
    field: 'logprobs',
    asks: ({ logprobs }) => logprobs !== null,
    reason: 'POST /generate answers those of the tokens made',
  },
  {
    field: 'presence_penalty',
    asks: ({ presence_penalty: penalty }) => Boolean(penalty),
    reason: 'POST /generate has a repetitionPenalty',
  },
  {
    field: 'frequency_penalty',
    asks: ({ frequency_penalty: penalty }) => Boolean(penalty),
    reason: 'POST /generate has a repetitionPenalty',
  },
  {
    field: 'logit_bias',
    asks: ({ logit_bias: bias }) => Object.keys(bias ?? {}).length > 0,
    reason: 'logits are taken as the model makes them',
  },
  {
    field: 'best_of',
    asks: ({ best_of: best, n }) => best !== null && best !== (n ?? 1),
    reason: 'all n texts are answered',
  },
]

/** Throws `not_supported` that names the first field. */
export function refuseUnsupported(body: CompletionBody): void {
  for (const { field, asks, reason } of unsupported) {
    if (asks(body)) throw notSupported(field, `${field} is not supported by this version: ${reason}`)
  }
}

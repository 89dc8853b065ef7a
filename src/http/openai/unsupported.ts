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
    asks: ({ logprobs, echo }) => logprobs !== null && echo === true,
    reason: 'with echo it asks for those of the prompt, of which none are made',
  },
]

/** Throws `not_supported` that names the first field. */
export function refuseUnsupported(body: CompletionBody): void {
  for (const { field, asks, reason } of unsupported) {
    if (asks(body)) throw notSupported(field, `${field} is not supported by this version: ${reason}`)
  }
}

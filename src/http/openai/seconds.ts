// Times as OpenAI tells them: whole seconds since 1970.

export function toSeconds(iso: string): number {
  return Math.floor(Date.parse(iso) / 1_000)
}

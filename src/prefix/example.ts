// One pair of texts to learn from.

export interface Example {
  readonly input: string
  readonly output: string
}

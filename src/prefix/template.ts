// How an input becomes a prompt: one way for training and serving, or a prefix would be played on other words than its own.

/** Marks the place of the input in a template. */
export const inputMark = '{input}'

/** The paper's form; the output follows, then end-of-text. The bare model gets it too. */
export const defaultTemplate = ` ${inputMark} <|endoftext|>`

export function promptOf(template: string, input: string): string {
  return template.replace(inputMark, () => input)
}

/** A template is good when the mark stands in it once. */
export function countMarks(template: string): number {
  return template.split(inputMark).length - 1
}

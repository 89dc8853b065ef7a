// Limits that several requests have alike, whichever interface they come by; those of the engine and of one request lie with them.

/** Inputs of one request. */
export const inputsMax = 256
/** Of one input, in Unicode characters. */
export const inputLengthMax = 65_536
/** Of one output. */
export const newTokensMax = 4_096
/** Answered for each input. */
export const textsMax = 16
/** Made for each input, of which the best are answered. */
export const textsMadeMax = 20
/** OpenAI's bound for presence and frequency. */
export const penaltyMax = 2
export const seedMax = Number.MAX_SAFE_INTEGER

/** Of the examples, held out of training. */
export const validationShareMax = 0.9
export const validationShareDefault = 0.1

/** Of an id, a name or name@version, in characters. */
export const prefixReferenceMax = 128
/** Of what is known by its id alone, or by its name alone, in characters. */
export const idLengthMax = 64

/** Of lists. */
export const pageLengthMax = 100
export const pageLengthDefault = 20

// How weights of a product lie in memory, and how large its integers may be.

/** Columns of a panel: two vectors of sums. */
export const panelColumns = 16
/** Pairs of inputs that share the scale of a weight: so many products of the largest magnitudes add up to an int32. */
export const blockPairs = 128
/** Bits of a weight beside the 8 of its upper byte. */
export const lowBits = 2
/** Pairs of inputs whose low bits share bytes. */
export const pairsTogether = 8 / lowBits
/** Of a weight, ±; and of a row's numbers, ±: blockPairs · 2 · both < 2³¹. */
export const weightSteps = 2 ** (7 + lowBits) - 1
export const rowSteps = Math.floor((2 ** 31 - 1) / (2 * blockPairs * weightSteps))
/** Of a block of so many pairs of a panel. */
export const blockBytes = (pairs: number): number => pairs * (2 * panelColumns + (lowBits * panelColumns) / 4)
/** Of a block as words, in a lane's memory; the sums of a panel's columns lie behind it. */
export const wordsBytes = 4 * panelColumns * blockPairs

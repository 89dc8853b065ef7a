// The network that makes the paper's prefixes, evaluated once: embedding → linear → tanh → linear (Li & Liang 2021, section 4.3).

/** Weights as PyTorch's linear layers keep them, [out, in]: y = W·x + b. */
export interface PaperNetwork {
  /** [P, width] */
  readonly embedding: Float32Array
  /** [hidden, width] */
  readonly hiddenWeight: Float32Array
  /** [hidden] */
  readonly hiddenBias: Float32Array
  /** [columns, hidden] */
  readonly outputWeight: Float32Array
  /** [columns] */
  readonly outputBias: Float32Array
}

/** The keys and values of one virtual token, [columns]; in float64, as is every sum on the way. */
export function foldToken(network: PaperNetwork, token: number): Float64Array {
  const { embedding, hiddenWeight, hiddenBias, outputWeight, outputBias } = network
  const width = hiddenWeight.length / hiddenBias.length
  const embedded = Float64Array.from(embedding.subarray(token * width, (token + 1) * width))
  const hidden = linear(embedded, hiddenWeight, hiddenBias).map(Math.tanh)
  return linear(hidden, outputWeight, outputBias)
}

function linear(input: Float64Array, weight: Float32Array, bias: Float32Array): Float64Array {
  const output = Float64Array.from(bias)
  for (let o = 0, at = 0; o < output.length; o++) {
    let sum = output[o] as number
    for (let i = 0; i < input.length; i++, at++) sum += (input[i] as number) * (weight[at] as number)
    output[o] = sum
  }
  return output
}

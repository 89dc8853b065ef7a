// The options of a training, with their limits and defaults.
import { Type } from 'typebox'
import { prefixLengthMax } from '../../prefix/artifact.ts'
import { trainingDefaults as defaults } from '../../train/options.ts'
import { seedMax } from './limits.ts'
import { Nullable, Word, withoutDefaulted } from './shared.ts'

export const Training = withoutDefaulted(
  {
    prefixLength: Nullable(Type.Integer({ minimum: 1, maximum: prefixLengthMax }), {
      default: defaults.prefixLength,
      description: 'P, in virtual tokens. null: that of `from`, or chosen.',
    }),
    epochs: Nullable(Type.Integer({ minimum: 1, maximum: 10_000 }), {
      default: defaults.epochs,
      description: 'Passes over the examples, used where `steps` is null; null: chosen by their number.',
    }),
    steps: Nullable(Type.Integer({ minimum: 1, maximum: 10_000_000 }), {
      default: defaults.steps,
      description: 'Optimizer steps in all; null: as many as the epochs make, or chosen.',
    }),
    batchSize: Type.Integer({
      minimum: 1,
      maximum: 1_024,
      default: defaults.batchSize,
      description: 'Examples that go through the model together.',
    }),
    accumulation: Type.Integer({
      minimum: 1,
      maximum: 1_024,
      default: defaults.accumulation,
      description: 'Batches whose gradients make one step: as one batch of all their examples, in less memory.',
    }),
    learningRate: Nullable(Type.Number({ exclusiveMinimum: 0, maximum: 10 }), {
      default: defaults.learningRate,
      description: 'The largest, which `schedule` begins with; null: chosen.',
    }),
    warmupSteps: Type.Integer({
      minimum: 0,
      maximum: 1_000_000,
      default: defaults.warmupSteps,
      description: 'Steps in which the rate rises from 0 in a line; fewer than all.',
    }),
    schedule: Word(['linear', 'cosine', 'constant'], {
      default: defaults.schedule,
      description: 'How the rate falls to 0 after the warm-up, or stays.',
    }),
    weightDecay: Type.Number({ minimum: 0, maximum: 10, default: defaults.weightDecay, description: "AdamW's." }),
    clipNorm: Type.Number({
      exclusiveMinimum: 0,
      maximum: 1_000_000,
      default: defaults.clipNorm,
      description: 'Largest norm of the gradients of a step.',
    }),
    dropout: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: defaults.dropout,
      description: "Share of the prefix's keys and values that each step leaves out.",
    }),
    labelSmoothing: Type.Number({
      minimum: 0,
      exclusiveMaximum: 1,
      default: defaults.labelSmoothing,
      description: 'Share of a target spread over all tokens, in the training loss; held-out loss is plain.',
    }),
    variant: Word(['prefix', 'embedding', 'infix'], {
      default: defaults.variant,
      description:
        '`embedding` trains input embeddings instead of keys and values, without reparametrization. `infix` is not served, and refused.',
    }),
    attachments: Nullable(
      Type.Unsafe<readonly string[]>({
        type: 'array',
        items: Word(['decoder_self', 'cross', 'encoder_self']),
        minItems: 1,
        maxItems: 3,
        uniqueItems: true,
      }),
      {
        default: defaults.attachments,
        description:
          'Where the prefix is put in: self-attention of the decoder, its attention to the encoder, self-attention of the encoder. null: wherever the model takes one; GPT-2 has the first alone.',
      },
    ),
    reparametrization: Nullable(Type.Integer({ minimum: 0, maximum: 8_192 }), {
      default: defaults.reparametrization,
      description: 'Width of the network that makes the prefix in training; 0: none; null: chosen.',
    }),
    initialization: Nullable(Type.String({ pattern: '^(random|text:[^]*\\S[^]*)$', maxLength: 1_000 }), {
      default: defaults.initialization,
      description:
        '`text:WORDS` starts from what the words give in the frozen model, `random` does not; null: chosen. Of no use with `from`.',
    }),
    seed: Type.Integer({ minimum: 0, maximum: seedMax, default: defaults.seed }),
    lossReduction: Word(['sum', 'mean'], {
      default: defaults.lossReduction,
      description: 'Over the target tokens of an example.',
    }),
    precision: Word(['float32', 'fast'], {
      default: defaults.precision,
      description:
        'Of products with frozen weights while training: `fast` is 8 bits, where the machine is faster so, and 16 bits on an NVIDIA GPU.',
    }),
  },
  { default: {}, description: 'Everything has a default that works; null means chosen for you, by trying.' },
)

// What is answered about the service itself.
import { Type } from 'typebox'
import { answer, Nullable, Word } from './shared.ts'

export const Health = answer('Health', 'It is alive.', { status: Word(['ok']) })

const Part = Type.Object({
  status: Word(['ok', 'failed']),
  detail: Nullable(Type.String(), { description: 'What is wrong with it.' }),
})

export const Readiness = answer('Readiness', 'The state of each part.', {
  status: Word(['ready', 'not_ready']),
  parts: Type.Object({ engine: Part, queue: Part, store: Part }),
  runtime: Nullable(
    Type.Object({
      name: Type.String({ description: '`onnx`, `cuda` or `webgpu`.' }),
      device: Type.String({ description: 'What it runs on, with its memory.' }),
      precision: Type.String({ description: 'Of generation.' }),
    }),
    { description: 'What runs the model; null while the engine is not ready.' },
  ),
})

export const Index = answer('Index', 'What is here.', {
  name: Type.String(),
  version: Type.String(),
  model: Type.Object({
    name: Type.String(),
    sha256: Type.String(),
    tokenizerSha256: Type.String(),
    layers: Type.Integer(),
    heads: Type.Integer(),
    headDim: Type.Integer(),
    positionsMax: Type.Integer({ description: 'Prefix, prompt and new tokens together.' }),
  }),
  links: Type.Record(Type.String(), Type.String()),
})

export const ErrorList = answer('ErrorList', 'All codes.', {
  errors: Type.Array(Type.Object({ code: Type.String(), status: Type.Integer(), title: Type.String() })),
})

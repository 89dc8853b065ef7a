// A prefix of PEFT for BART: its own choice of layers and its shifted positions, against PEFT; and what its files cannot say.
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { openModel, playing } from '../../src/model/model.ts'
import { readPaper } from '../../src/prefix/paper.ts'
import { type PeftFiles, readPeft, writePeft } from '../../src/prefix/peft.ts'
import { layersToStore, playedLayers, storedLayerOf } from '../../src/prefix/peft-pairs.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import { bartFolder } from '../golden/bart.ts'
import { assertClose, type GoldenTensor } from '../golden/gpt2.ts'
import { adapterFiles, paperModel } from '../golden/peft.ts'

const folder = 'test/golden/peft-bart'
interface Says {
  readonly source: readonly number[]
  readonly ids: readonly number[]
  readonly logits: GoldenTensor
}
const golden = JSON.parse(readFileSync(`${folder}/golden.json`, 'utf8')) as { readonly says: readonly Says[] }
const files: PeftFiles = {
  config: readFileSync(`${folder}/adapter/adapter_config.json`),
  model: readFileSync(`${folder}/adapter/adapter_model.safetensors`),
}
const model = await openModel(`${bartFolder}/model`)
const played = playing(model, { sha256: 'b'.repeat(64) })

async function assertSays(prefix: Prefix): Promise<void> {
  const runtime = createOnnxRuntime({ threads: 1 })
  const layout = { ...model.config, rowsMax: 1, sourceMax: 64 }
  const session = await runtime.openSession(model.forwardGraph(), model.weights, layout, 'float32', model.sourceGraph())
  const { keys, values, header } = prefix
  for (const { source, ids, logits } of golden.says) {
    session.seed(0, { keys, values, length: header.prefixLength, textStart: header.textPositionStart })
    await session.read([{ row: 0, source: { tokens: source, encoder: null, cross: null } }])
    const width = logits.shape[1] as number
    let input = [2]
    for (const [step, id] of ids.entries()) {
      const actual = await session.extend(0, [input])
      assertClose(`logits of step ${step}`, actual, logits.data.slice(step * width, (step + 1) * width), 1e-5)
      assert.equal(actual.indexOf(Math.max(...actual)), id)
      input = [id]
    }
  }
  await session.dispose()
}

test('an adapter of BART gives the logits that it gives in PEFT, and so it does after an export and an import', async () => {
  const prefix = readPeft(files, played)
  const { attachment, places, layers, textPositionStart, prefixLength } = prefix.header
  assert.deepEqual([attachment, places, layers, textPositionStart, prefixLength], ['decoder_self', undefined, 2, 5, 5])
  await assertSays(prefix)
  const exported = writePeft(prefix, 'elsewhere', played)
  const config = JSON.parse(new TextDecoder().decode(exported.config)) as Record<string, unknown>
  assert.equal(config['task_type'], 'SEQ_2_SEQ_LM')
  assert.equal(config['num_transformer_submodules'], 2)
  assert.equal(config['num_layers'], 3)
  assert.equal(config['base_model_name_or_path'], 'golden/tiny-bart')
  const back = readPeft(exported, played)
  assert.deepEqual([back.keys, back.values], [prefix.keys, prefix.values])
})

test('of twelve stored layers PEFT plays every other one twice over', () => {
  const layers = { stored: 12, played: 12, isCut: true }
  const order = Array.from({ length: 12 }, (_, l) => storedLayerOf(l, layers))
  assert.deepEqual(order, [0, 2, 4, 6, 8, 10, 0, 2, 4, 6, 8, 10])
  const stored = Float32Array.from({ length: 24 }, (_, i) => i)
  const own = playedLayers(stored, layers)
  assert.deepEqual([...own.slice(0, 4)], [0, 1, 4, 5])
  const back = layersToStore(own, layers)
  assert.deepEqual([...back.slice(0, 6)], [0, 1, 0, 0, 4, 5])
  assert.deepEqual(playedLayers(back as Float32Array, layers), own)
  own[14] = -1
  assert.deepEqual(layersToStore(own, layers), [1, 7])
})

test('what PEFT would play otherwise is not exported, and the reason is said', () => {
  const prefix = readPeft(files, played)
  const changed = (header: Partial<Prefix['header']>): Prefix => ({
    ...prefix,
    header: { ...prefix.header, ...header },
  })
  assert.throws(() => writePeft(changed({ textPositionStart: 0 }), 'x', played), {
    code: 'not_supported',
    message: /has text from position 0 on, PEFT plays textPositionStart 5 alone/,
  })
  const places = [
    { attachment: 'decoder_self', layers: 1 },
    { attachment: 'cross', layers: 1 },
  ] as const
  assert.throws(() => writePeft(changed({ places }), 'x', played), {
    code: 'not_supported',
    message: /is attached to decoder_self and cross, PEFT plays attachment decoder_self alone/,
  })
  assert.throws(() => writePeft(changed({ attachment: 'cross' }), 'x', played), { code: 'not_supported' })
  // With an even number of layers two are played from one.
  const even = {
    places: [{ attachment: 'decoder_self', layers: 2 } as const, { attachment: 'encoder_self', layers: 2 } as const],
  }
  assert.throws(() => writePeft(prefix, 'x', even), {
    code: 'not_supported',
    message: /PEFT plays decoder layers 0 and 1 from one and the same stored layer, and those of the prefix differ/,
  })
  const shallow = {
    places: [{ attachment: 'decoder_self', layers: 2 } as const, { attachment: 'encoder_self', layers: 1 } as const],
  }
  assert.throws(() => writePeft(prefix, 'x', shallow), {
    code: 'not_supported',
    message: /PEFT stores as many layers as the encoder has, 1, and the decoder has 2/,
  })
})

test('files for the other kind of model are refused with both sides', async () => {
  assert.throws(() => readPeft(adapterFiles('float32'), played), {
    code: 'prefix_model_mismatch',
    message: /task_type CAUSAL_LM, the model model has SEQ_2_SEQ_LM/,
  })
  const { places, textStarts, ...decoder } = played
  assert.ok(places.length > 0 && textStarts.length > 0)
  assert.throws(() => readPeft(files, decoder), {
    code: 'prefix_model_mismatch',
    message: /task_type SEQ_2_SEQ_LM, the model model has CAUSAL_LM/,
  })
  await assert.rejects(readPaper(paperModel(), played), { code: 'not_supported', message: /has an encoder/ })
})

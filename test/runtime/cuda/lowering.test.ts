// What a training step of GPT-2 becomes: products with their bias, residual and gelu, and next to nothing that only moves numbers.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Graph } from '../../../src/graph/graph.ts'
import { openModel } from '../../../src/model/model.ts'
import { lower } from '../../../src/runtime/cuda/lower.ts'
import type { Lowering } from '../../../src/runtime/cuda/lowering.ts'
import { planMemory } from '../../../src/runtime/memory-plan.ts'
import { storagesOf, type Form } from '../../../src/runtime/cuda/steps.ts'
import { trainingGraph } from '../../../src/train/graphs.ts'
import { prefixShape } from '../../../src/train/parameters.ts'
import { goldenFolder } from '../../golden/gpt2.ts'

const model = await openModel(`${goldenFolder}/model`)
const { layers } = model.config
const asked = new Set<string>()
const weights = {
  address: (name: string, form: Form) => {
    asked.add(`${form} ${name}`)
    return 4096n
  },
}
const step = trainingGraph(model, prefixShape(model.config, 4, 0))
const forward = model.forwardGraph()

function lowered(graph: Graph, form: Form, sizes: Readonly<Record<string, number>>): Lowering {
  asked.clear()
  return lower(graph, { form, bindings: new Map(Object.entries(sizes)), weights })
}
const trained = (form: Form): Lowering => lowered(step, form, { B: 3, T: 20, R: 30 })

function countsOf({ steps }: Lowering): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const each of steps) {
    const name = each.kind === 'kernel' ? each.name : 'product'
    counts[name] = (counts[name] ?? 0) + 1
  }
  return counts
}

test('of a training step only the prefix, turned once for all layers, and the loss weights are moved by kernels of their own', () => {
  const counts = countsOf(trained('float32'))
  assert.ok((counts['copy_strided'] ?? 0) <= 2, JSON.stringify(counts))
  // Each residual is added where its summand is computed; the sum of the embeddings is not one of them.
  assert.equal(counts['add_same'], 1)
  assert.equal(counts['attention'], layers)
  assert.equal(counts['cross_entropy'], undefined, 'losses come with their gradient')
  assert.equal(counts['cross_entropy_gradient'], 1)
  // Four products a layer forwards, four backwards but for the first projection, which leads to no prefix; logits and back.
  assert.equal(counts['product'], 8 * layers - 1 + 2)
})

test('without a gradient gelu goes with its product, and a step of one token takes the kernel for decoding', () => {
  const counts = countsOf(lowered(forward, 'float32', { B: 2, T: 1, R: 2, M: 8 }))
  assert.equal(counts['gelu'], undefined)
  assert.equal(counts['attention_decode'], layers)
  assert.equal(counts['attention'], undefined)
})

test('in bfloat16 frozen matrices are held in bfloat16 alone, and what is added or scales in float32', () => {
  trained('bfloat16')
  const both = [...asked].filter(
    (each) => each.startsWith('float32 ') && asked.has(each.replace('float32', 'bfloat16')),
  )
  assert.deepEqual(both, [])
  assert.ok(asked.has('bfloat16 wte.weight') && asked.has('bfloat16 h.0.attn.c_attn.weight'))
  assert.ok(asked.has('float32 h.0.attn.c_attn.bias') && asked.has('float32 ln_f.weight'))
})

test('intermediates share memory: a step needs less than half of what they take side by side', () => {
  const arena = [...new Set(trained('float32').steps.flatMap(storagesOf))].filter(({ kind }) => kind === 'arena')
  const apart = arena.reduce((sum, { bytes }) => sum + bytes, 0)
  const { bytes } = planMemory(arena, { alignment: 256 })
  assert.ok(bytes < apart / 2, `${bytes} of ${apart} bytes`)
})

// A graph cut in stages, each run by whoever runs it best, as one program.
import assert from 'node:assert/strict'
import type { CutGraph } from '../graph/cut.ts'
import { inputsOf, type Graph } from '../graph/graph.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Feeds, Program } from './runtime.ts'

type Opener = (graph: Graph) => Program | Promise<Program>

export interface StageOpeners {
  /** Its programs may overwrite what they answered in their next run. */
  readonly trunk: Opener
  /** Of what comes before and after; its programs answer tensors of their own each time. */
  readonly around: Opener
}

interface Stage {
  readonly program: Program
  /** Names of what it is fed. */
  readonly inputs: readonly string[]
  /** Names of what it makes that is wanted in the end and may be overwritten. */
  readonly copied: readonly string[]
}

export class StagedProgram implements Program {
  readonly #outputs: readonly string[]
  readonly #stages: readonly Stage[]
  /** One run at a time: what the trunk made must last until the stage behind it is through. */
  #turn: Promise<unknown> = Promise.resolve()

  private constructor(outputs: readonly string[], stages: readonly Stage[]) {
    this.#outputs = outputs
    this.#stages = stages
  }

  static async open(
    { whole, before, trunk, after }: CutGraph,
    { trunk: inside, around }: StageOpeners,
  ): Promise<StagedProgram> {
    const outputs = Object.keys(whole.outputs)
    const stages: Stage[] = []
    const add = async (graph: Graph | null, open: Opener): Promise<void> => {
      if (graph === null) return
      const copied = graph === trunk ? outputs.filter((name) => name in graph.outputs) : []
      const inputs = inputsOf(graph).map(({ attributes }) => attributes.name)
      stages.push({ program: await open(graph), inputs, copied })
    }
    try {
      await add(before, around)
      await add(trunk, inside)
      await add(after, around)
    } catch (error) {
      await Promise.all(stages.map(({ program }) => program.dispose()))
      throw error
    }
    return new StagedProgram(outputs, stages)
  }

  run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const done = this.#turn.then(() => this.#run(feeds))
    this.#turn = done.catch(() => undefined)
    return done
  }

  async dispose(): Promise<void> {
    await this.#turn
    await Promise.all(this.#stages.map(({ program }) => program.dispose()))
  }

  async #run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const known = new Map(Object.entries(feeds))
    const of = (name: string): Tensor => {
      const tensor = known.get(name)
      assert.ok(tensor !== undefined, `input ${name} is not fed`)
      return tensor
    }
    const answer = new Map<string, Tensor>()
    for (const { program, inputs, copied } of this.#stages) {
      const made = await program.run(Object.fromEntries(inputs.map((name) => [name, of(name)])))
      for (const [name, tensor] of Object.entries(made)) known.set(name, tensor)
      for (const name of copied) answer.set(name, copyOf(of(name)))
    }
    return Object.fromEntries(this.#outputs.map((name) => [name, answer.get(name) ?? of(name)]))
  }
}

const copyOf = (tensor: Tensor): Tensor => ({ ...tensor, data: tensor.data.slice() })

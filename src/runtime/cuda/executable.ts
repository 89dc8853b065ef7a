// A lowered program with every dimension bound, in its place in memory; when it runs again, it is captured as a CUDA graph.
import assert from 'node:assert/strict'
import type { Tensor } from '../../tensor/tensor.ts'
import type { Feeds } from '../runtime.ts'
import type { Product } from './cublaslt.ts'
import type { Device } from './device.ts'
import type { Lowering } from './lowering.ts'
import { planMemory } from '../memory-plan.ts'
import { addressOf, storagesOf, type ProductStep, type Step, type Storage } from './steps.ts'

/** What every type and every wide load can begin at. */
const alignment = 256
/** Between buffers, where writing beyond them is looked for. */
const checkedGap = 256
/** Fills what nobody has written: as float32, not a number. */
const unwritten = 0xff

/** Runs that wait on the stream before what is timed. */
const aheadMax = 256

export interface StepTime {
  readonly name: string
  readonly ms: number
  /** Read and written at least. */
  readonly bytes: number
  readonly operations: number
}

export class Executable {
  readonly generation: number
  readonly #device: Device
  readonly #steps: readonly Step[]
  readonly #inputs: ReadonlyMap<string, Storage>
  readonly #outputs: ReadonlyMap<string, Storage>
  readonly #kept: ReadonlyMap<string, Storage>
  readonly #shapes: ReadonlyMap<string, readonly number[]>
  /** Where inputs and outputs begin; each region is sent in one piece. */
  readonly #inputStart: bigint
  readonly #outputStart: bigint
  readonly #staged: Uint8Array
  readonly #outputBytes: number
  /** Of the second run on. The first one loads kernels and whatever cuBLASLt needs, which a capture does not allow. */
  #graph: bigint | null = null
  #hasRun = false
  readonly #checked: { readonly start: bigint; readonly bytes: number; readonly used: readonly Storage[] } | null

  /** `checked`: no memory is shared, and every run makes sure that nothing was written where nothing lies. */
  constructor(device: Device, lowered: Lowering, checked: boolean) {
    this.#device = device
    this.#steps = lowered.steps
    this.#inputs = lowered.inputs
    this.#outputs = lowered.outputs
    this.#kept = lowered.kept
    this.#shapes = new Map(
      Object.entries(lowered.graph.outputs).map(([name, value]) => [name, lowered.shapeOf(value)] as const),
    )
    const arena = [...new Set(this.#steps.flatMap(storagesOf))].filter(({ kind }) => kind === 'arena')
    const [inputs, outputs] = [[...this.#inputs.values()], [...this.#outputs.values()]]
    const gap = checked ? { gap: checkedGap } : {}
    const together = (storages: readonly Storage[]): readonly Storage[] =>
      storages.map((storage) => Object.assign(storage, { first: 0, last: Infinity }))
    const plans = [planMemory(together(inputs), { alignment }), planMemory(together(outputs), { alignment, ...gap })]
    plans.push(planMemory(arena, { alignment, ...gap }))
    const [forInputs, forOutputs, forArena] = plans as [Plan, Plan, Plan]
    const total = Math.max(alignment, forInputs.bytes + forOutputs.bytes + forArena.bytes)
    const base = device.arena(total)
    this.generation = device.generation
    this.#inputStart = base
    this.#outputStart = base + BigInt(forInputs.bytes)
    const arenaStart = this.#outputStart + BigInt(forOutputs.bytes)
    place(inputs, forInputs, this.#inputStart)
    place(outputs, forOutputs, this.#outputStart)
    place(arena, forArena, arenaStart)
    this.#staged = new Uint8Array(forInputs.bytes)
    this.#outputBytes = forOutputs.bytes
    this.#checked = checked
      ? { start: this.#outputStart, bytes: forOutputs.bytes + forArena.bytes, used: [...outputs, ...arena] }
      : null
  }

  run(feeds: Feeds): Record<string, Tensor> {
    const bytes = this.execute((name) => {
      const feed = feeds[name]
      assert.ok(feed !== undefined, `input ${name} is not fed`)
      assert.ok(!(feed.data instanceof Float64Array), 'the cuda runtime takes float32 arrays')
      return feed.data
    })
    return Object.fromEntries(
      [...this.#outputs.keys()].map((name) => {
        // What is none of the graph's is a row of numbers.
        const shape = this.#shapes.get(name) ?? [(this.#outputs.get(name) as Storage).bytes / 4]
        const count = shape.reduce((a, b) => a * b, 1)
        return [name, { dtype: 'float32', shape, data: new Float32Array(bytes, this.offsetOf(name), count) } as const]
      }),
    )
  }

  /** Where an output that stays on the device lies after a run, until something else runs. */
  addressOf(kept: string): bigint {
    return addressOf({ storage: this.#kept.get(kept) as Storage, offset: 0 })
  }

  /** In what `execute` answers, in bytes. */
  offsetOf(output: string): number {
    return Number((this.#outputs.get(output)?.address as bigint) - this.#outputStart)
  }

  /**
   * Sends the inputs, launches, and waits for the outputs: all of them in one buffer. `also` may put more on the stream behind
   * the last step, such as the download of what is no output; that is waited for, too.
   */
  execute(dataOf: (name: string) => Int32Array | Float32Array, also: () => void = () => undefined): ArrayBuffer {
    const { driver } = this.#device
    for (const [name, storage] of this.#inputs) {
      const data = dataOf(name)
      const offset = Number((storage.address as bigint) - this.#inputStart)
      this.#staged.set(new Uint8Array(data.buffer, data.byteOffset, data.byteLength), offset)
    }
    driver.upload(this.#inputStart, this.#staged)
    if (this.#checked !== null) driver.fill(this.#checked.start, unwritten, this.#checked.bytes)
    this.#launchAll()
    const fetched = new ArrayBuffer(this.#outputBytes)
    driver.download(new Uint8Array(fetched), this.#outputStart)
    also()
    driver.synchronize()
    this.#device.confirm()
    this.#assertUntouched()
    return fetched
  }

  /** The time of each step by itself, in their order; on whatever the last run left in memory. It must have run. */
  time(): StepTime[] {
    const { driver } = this.#device
    const launches = this.#steps.map((step) => () => this.#launch(step))
    const startMs = performance.now()
    driver.time(launches)
    const sendingMs = performance.now() - startMs
    const [wholeMs = 0] = driver.time([() => this.#launchAll()])
    // Whole runs before, for as long as it takes to send all steps one by one.
    const ahead = Math.min(aheadMax, Math.ceil((2 * sendingMs) / Math.max(wholeMs, 0.01)))
    const times = driver.time(launches, () => {
      for (let i = 0; i < ahead; i++) this.#launchAll()
    })
    return this.#steps.map((step, i) => {
      const ms = times[i] as number
      if (step.kind === 'kernel') return { name: step.name, ms, bytes: step.bytes, operations: 0 }
      const { rows, columns, inner, right, left } = step
      const bytes = (type: string): number => (type === 'float32' ? 4 : 2)
      return {
        name: `product ${right.type}`,
        ms,
        bytes: rows * inner * bytes(left.type) + inner * columns * bytes(right.type) + 4 * rows * columns,
        operations: 2 * rows * columns * inner,
      }
    })
  }

  dispose(): void {
    if (this.#graph !== null) this.#device.driver.destroyGraph(this.#graph)
    this.#graph = null
  }

  #launchAll(): void {
    const each = (): void => {
      for (const step of this.#steps) this.#launch(step)
    }
    if (this.#hasRun) {
      this.#graph ??= this.#device.driver.capture(each)
      this.#device.driver.launchGraph(this.#graph)
    } else each()
    this.#hasRun = true
  }

  #launch(step: Step): void {
    if (step.kind === 'kernel') this.#device.launch(step, addressOf)
    else if (!this.#device.blas.multiply(productOf(step), this.#device.driver.stream)) this.#launchApart(step)
  }

  /** Where cuBLASLt cannot put bias or gelu behind the product, they are a step of their own. */
  #launchApart(step: ProductStep): void {
    const { out, bias, rows, columns } = step
    this.#device.blas.multiply({ ...productOf(step), bias: null, gelu: false }, this.#device.driver.stream)
    const count = rows * columns
    const sizes = [{ int: columns }, { int: out.stride }, { int: Number(step.gelu) }, { int: count }]
    this.#device.launch(
      {
        kind: 'kernel',
        name: 'add_bias',
        heads: null,
        grid: [Math.ceil(count / 256), 1, 1],
        threads: 256,
        arguments: [{ place: out }, { place: bias }, ...sizes],
        bytes: 8 * count,
      },
      addressOf,
    )
  }

  #assertUntouched(): void {
    if (this.#checked === null) return
    const { start, bytes, used } = this.#checked
    const memory = new Uint8Array(bytes)
    this.#device.driver.download(memory, start)
    this.#device.driver.synchronize()
    for (const { address, bytes: length } of used) {
      const offset = Number((address as bigint) - start)
      memory.fill(unwritten, offset, offset + length)
    }
    const at = memory.findIndex((byte) => byte !== unwritten)
    assert.equal(at, -1, `a kernel wrote ${at} bytes into the buffers of this program, where nothing lies`)
  }
}

type Plan = ReturnType<typeof planMemory>

function place(storages: readonly Storage[], plan: Plan, start: bigint): void {
  storages.forEach((storage, i) => {
    storage.address = start + BigInt(plan.offsets[i] as number)
  })
}

function productOf(step: ProductStep): Product {
  const { left, right, out, added, bias, rows, columns, inner, gelu, scale } = step
  const factor = ({ place, stride, type, transposed }: ProductStep['left']): Product['left'] => ({
    address: addressOf(place),
    stride,
    type,
    transposed,
  })
  const view = (each: ProductStep['out']): Product['out'] => ({ address: addressOf(each), stride: each.stride })
  return {
    rows,
    columns,
    inner,
    gelu,
    scale,
    left: factor(left),
    right: factor(right),
    out: view(out),
    added: added === null ? null : view(added),
    bias: bias === null ? null : addressOf(bias),
  }
}

// A graph on the device: one captured CUDA graph for each binding of its dimensions, the last few of them kept.
import type { Tensor } from '../../tensor/tensor.ts'
import { bindDimensions } from '../dimensions.ts'
import type { Feeds, Program } from '../runtime.ts'
import { ExecutableCache, type Prepared, type ProgramParts } from './executable-cache.ts'
import type { Executable, StepTime } from './executable.ts'

/** A bucketed training has a few dozen shapes. */
export const executablesMax = 64

export class CudaProgram implements Program {
  readonly #executables: ExecutableCache

  constructor(parts: ProgramParts, prepared: Prepared) {
    this.#executables = new ExecutableCache(parts, prepared, executablesMax)
  }

  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    return this.#executable(feeds).run(feeds)
  }

  /** The time of every step of a run with these feeds, on the device. */
  time(feeds: Feeds): StepTime[] {
    const executable = this.#executable(feeds)
    executable.run(feeds)
    return executable.time()
  }

  async dispose(): Promise<void> {
    this.#executables.dispose()
  }

  #executable(feeds: Feeds): Executable {
    const bindings = bindDimensions(this.#executables.prepared.graph, feeds)
    return this.#executables.get([...bindings].join(), () => ({ bindings }))
  }
}

"""Times greedy decode steps of several rows in CTranslate2 (int8) or llama.cpp (q8_0)."""

import argparse
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy

from convert_gpt2 import config_of, converted
from turns import add_turns, take_turns

STEPS_MAX = 128


def ctranslate2_steps(options: argparse.Namespace, prompts: numpy.ndarray) -> Callable[[int], list[float]]:
    """Its interface has no single step: the mean of a whole generation of fixed length, less one of a single token."""
    import ctranslate2

    model = converted(Path(options.model), "ctranslate2")
    generator = ctranslate2.Generator(
        str(model), device="cpu", compute_type="int8", inter_threads=1, intra_threads=options.threads
    )
    tokens = [[f"t{token}" for token in row] for row in prompts]

    def generate(length: int) -> float:
        start = time.perf_counter()
        results = generator.generate_batch(
            tokens, max_length=length, min_length=length, sampling_topk=1, beam_size=1,
            include_prompt_in_result=False, max_batch_size=options.rows,
        )
        elapsed = time.perf_counter() - start
        assert all(len(result.sequences_ids[0]) == length for result in results), "a row ended early"
        return elapsed

    generate(4)
    # The shorter one twice, of which the better counts as theirs to lose: its noise would be divided among the steps.
    return lambda count: [1000 * (generate(count + 1) - min(generate(1), generate(1))) / count] * count


def llama_steps(options: argparse.Namespace, prompts: numpy.ndarray) -> Callable[[int], list[float]]:
    """One llama_decode for the next token of every row, each a sequence of its own, and the largest of each row's logits."""
    import ctypes

    import llama_cpp

    silent = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(
        str(converted(Path(options.model), "llama.cpp")).encode(), llama_cpp.llama_model_default_params()
    )
    assert model, "llama.cpp cannot load the model"
    rows, length = prompts.shape
    vocabulary = config_of(Path(options.model))["vocab_size"]
    params = llama_cpp.llama_context_default_params()
    params.n_seq_max = rows
    params.n_ctx = rows * (length + STEPS_MAX)
    params.n_batch = params.n_ubatch = max(512, rows * length)
    params.n_threads = params.n_threads_batch = options.threads
    params.flash_attn_type = 1 if options.flash else 0
    params.kv_unified = options.unified
    context = llama_cpp.llama_init_from_model(model, params)
    assert context, "llama.cpp cannot make a context"
    memory = llama_cpp.llama_get_memory(context)
    batch = llama_cpp.llama_batch_init(rows * length, 0, 1)

    def decode(entries: list[tuple[int, int, int, bool]]) -> None:
        for i, (token, position, row, wanted) in enumerate(entries):
            batch.token[i], batch.pos[i], batch.logits[i] = int(token), position, wanted
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, row
        batch.n_tokens = len(entries)
        assert llama_cpp.llama_decode(context, batch) == 0, "llama_decode failed"

    def largest(at: list[int]) -> list[int]:
        logits = (numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (vocabulary,)) for i in at)
        return [int(row.argmax()) for row in logits]

    def steps(count: int) -> list[float]:
        llama_cpp.llama_memory_clear(memory, True)
        decode([(prompts[r, t], t, r, t == length - 1) for r in range(rows) for t in range(length)])
        tokens = largest([r * length + length - 1 for r in range(rows)])
        times = []
        for step in range(count + 1):
            start = time.perf_counter()
            decode([(token, length + step, row, True) for row, token in enumerate(tokens)])
            tokens = largest(list(range(rows)))
            times.append(1000 * (time.perf_counter() - start))
        return times[1:]  # The first one follows the prompt.

    steps(4)
    return steps


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--engine", required=True, choices=["ctranslate2", "llama.cpp"])
    options.add_argument("--model", required=True, help="folder in Hugging Face layout; converted models are kept in it")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--rows", type=int, default=1)
    options.add_argument("--prompt-tokens", type=int, default=42)
    options.add_argument("--flash", action=argparse.BooleanOptionalAction, default=True, help="of llama.cpp: fused attention")
    options.add_argument("--unified", action=argparse.BooleanOptionalAction, default=False, help="of llama.cpp: one cache for all rows")
    add_turns(options)
    options = options.parse_args()
    prompts = numpy.random.default_rng(1).integers(0, config_of(Path(options.model))["vocab_size"] - 1, (options.rows, options.prompt_tokens))
    steps = (ctranslate2_steps if options.engine == "ctranslate2" else llama_steps)(options, prompts)
    package = {"ctranslate2": "ctranslate2", "llama.cpp": "llama_cpp_python"}[options.engine]
    about = {
        "engine": options.engine, "version": version(package), "rows": options.rows, "threads": options.threads,
        "promptTokens": options.prompt_tokens, "python": platform.python_version(),
    }

    def answer(count: int) -> dict:
        assert count < STEPS_MAX, f"at most {STEPS_MAX - 1} steps a run"
        return {"stepsMs": steps(count)}

    take_turns(options, answer, about)


if __name__ == "__main__":
    main()

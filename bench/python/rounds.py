"""What the PEFT measurements share: options, versions, and taking turns with another program."""

import argparse
import json
import platform
import resource
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftModel, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

RUNS_MAX = 10_000


def parser(description: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(description=description)
    options.add_argument("--model", required=True, help="folder in Hugging Face layout")
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    options.add_argument("--prefix-length", type=int, default=10)
    options.add_argument("--attention", default="sdpa", choices=["sdpa", "eager"])
    options.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="of the weights")
    options.add_argument("--device", default="cpu", help="PyTorch's name of it: cpu, cuda")
    options.add_argument("--seed", type=int, default=1)
    turns = options.add_mutually_exclusive_group()
    turns.add_argument("--runs", type=int, default=5, help="measure this many, print one JSON line, end")
    turns.add_argument("--serve", action="store_true", help="wait for lines on stdin: 'run N' or 'quit'")
    return options


def open_model(options: argparse.Namespace) -> PeftModel:
    """GPT-2 with an untrained prefix. In evaluation mode: without dropout, which Preamble has none of."""
    # stdout is for programs and stderr for what went wrong: no progress bars and advice.
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    # Whatever a program makes from here on lies beside the model.
    torch.set_default_device(options.device)
    base = AutoModelForCausalLM.from_pretrained(options.model, dtype=getattr(torch, options.dtype), attn_implementation=options.attention).to(options.device)
    config = PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=options.prefix_length)
    return get_peft_model(base, config).to(options.device).eval()


def add_prefixes(model: PeftModel, count: int) -> list[str]:
    """Names of `count` untrained prefixes, the model's own first. They live beside each other; `set_adapter` chooses the one that plays."""
    [first] = model.peft_config
    names = [first] + [f"prefix{i}" for i in range(1, count)]
    for name in names[1:]:
        model.add_adapter(name, model.peft_config[first])
    model.eval()
    return names


def about(options: argparse.Namespace) -> dict:
    return {
        "model": Path(options.model).resolve().name,
        "threads": options.threads,
        "attention": options.attention,
        "dtype": options.dtype,
        "prefixLength": options.prefix_length,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "peft": peft.__version__,
    }


def measure(run: Callable[[], object], count: int) -> list[float]:
    """Milliseconds of each run."""
    times = []
    for _ in range(count):
        start = time.perf_counter()
        run()
        times.append((time.perf_counter() - start) * 1000)
    return times


def summary(times: list[float]) -> dict:
    return {"median": statistics.median(times), "min": min(times)}


def peak_bytes() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # Linux counts in kibibytes.


def say(line: dict) -> None:
    print(json.dumps(line), flush=True)


def drive(options: argparse.Namespace, run: Callable[[], object], report: Callable[[list[float]], dict]) -> None:
    """One warm-up run. Then the measurement; or, with --serve, one whenever stdin asks, so that two programs alternate."""
    run()
    if not options.serve:
        say(about(options) | report(measure(run, options.runs)) | {"peakBytes": peak_bytes()})
        return
    say({"ready": True} | about(options))
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        if len(words) == 2 and words[0] == "run" and words[1].isdecimal() and 0 < int(words[1]) <= RUNS_MAX:
            say(report(measure(run, int(words[1]))) | {"peakBytes": peak_bytes()})
        else:
            say({"error": f"expected 'run N' with N from 1 to {RUNS_MAX}, or 'quit', got {line.strip()!r}"})

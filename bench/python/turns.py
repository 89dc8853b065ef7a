"""What all measurements share: runs that are timed, and taking turns with another program."""

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

RUNS_MAX = 10_000


def add_turns(options: argparse.ArgumentParser) -> None:
    turns = options.add_mutually_exclusive_group()
    turns.add_argument("--runs", type=int, default=5, help="measure this many, print one JSON line, end")
    turns.add_argument("--serve", action="store_true", help="wait for lines on stdin: 'run N' or 'quit'")


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


def drive(options: argparse.Namespace, run: Callable[[], object], report: Callable[[list[float]], dict], about: dict) -> None:
    """One warm-up run. Then the measurement; or, with --serve, one whenever stdin asks, so that two programs alternate."""
    run()
    take_turns(options, lambda count: report(measure(run, count)), about)


def take_turns(options: argparse.Namespace, answer: Callable[[int], dict], about: dict) -> None:
    """`answer` of so many runs: once, or with --serve whenever stdin asks."""
    if not options.serve:
        say(about | answer(options.runs) | {"peakBytes": peak_bytes()})
        return
    say({"ready": True} | about)
    for line in sys.stdin:
        words = line.split()
        if words == ["quit"]:
            return
        if len(words) == 2 and words[0] == "run" and words[1].isdecimal() and 0 < int(words[1]) <= RUNS_MAX:
            say(answer(int(words[1])) | {"peakBytes": peak_bytes()})
        else:
            say({"error": f"expected 'run N' with N from 1 to {RUNS_MAX}, or 'quit', got {line.strip()!r}"})

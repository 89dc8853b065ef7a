"""Times greedy generation of several sources in CTranslate2 (int8), encoder and decoder together: it serves no prefix."""

import argparse
import os
import platform
from importlib.metadata import version
from pathlib import Path

import ctranslate2
import numpy

from convert_bart import converted
from convert_gpt2 import config_of
from turns import add_turns, drive


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", required=True, help="folder in Hugging Face layout; the converted model is kept in it")
    options.add_argument("--threads", type=int, default=os.cpu_count())
    options.add_argument("--rows", type=int, default=16)
    options.add_argument("--source-tokens", type=int, default=256)
    options.add_argument("--new-tokens", type=int, default=48)
    add_turns(options)
    options = options.parse_args()
    vocabulary = config_of(Path(options.model))["vocab_size"]
    drawn = numpy.random.default_rng(1).integers(3, vocabulary, (options.rows, options.source_tokens))
    sources = [[f"t{token}" for token in row] for row in drawn]
    translator = ctranslate2.Translator(
        str(converted(Path(options.model))), device="cpu", compute_type="int8", inter_threads=1, intra_threads=options.threads
    )

    def generate() -> None:
        results = translator.translate_batch(
            sources, beam_size=1, min_decoding_length=options.new_tokens, max_decoding_length=options.new_tokens,
            max_batch_size=options.rows,
        )
        assert all(len(result.hypotheses[0]) == options.new_tokens for result in results), "a row ended early"

    about = {
        "engine": "ctranslate2", "version": version("ctranslate2"), "rows": options.rows, "threads": options.threads,
        "sourceTokens": options.source_tokens, "newTokens": options.new_tokens, "python": platform.python_version(),
    }
    drive(options, generate, lambda times: {"generationsMs": times, "runs": len(times)}, about)


if __name__ == "__main__":
    main()
